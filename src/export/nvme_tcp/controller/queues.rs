//! The queues of a controller. Each belongs to a connection on some reactor; a controller can only ask for their end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a controller ends a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The host has not been heard of for longer than it said.
    KeepAliveExpired,
    /// The Admin queue's connection has ended.
    AdminQueueEnded,
    /// The host has reset the controller.
    Reset,
    /// The host has shut the controller down.
    ShutDown,
    /// The host may not connect any more.
    HostRemoved,
    /// The subsystem is no more.
    SubsystemRemoved,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAliveExpired => "the keep alive time ran out",
            Self::AdminQueueEnded => "the admin queue's connection ended",
            Self::Reset => "the host reset the controller",
            Self::ShutDown => "the host shut the controller down",
            Self::HostRemoved => "the host was removed",
            Self::SubsystemRemoved => "the subsystem was removed",
        })
    }
}

/// How a controller ends a queue. May be called from any thread, also before the Connect that made the queue is answered, and after the queue
/// has ended by itself.
pub trait EndQueue: Send + Sync {
    /// Ends the queue soon.
    fn end(&self, why: EndCause);

    /// Who is at the other end, for reports.
    fn peer(&self) -> &str;
}

/// How a controller ends a queue.
pub type QueueHandle = Arc<dyn EndQueue>;

/// The connected queues, by identifier. A queue that was told to end keeps its identifier, without a handle, until its connection has ended: else the
/// end of the old connection would be taken for the end of a new one.
#[derive(Default)]
pub(super) struct Queues(BTreeMap<u16, Option<QueueHandle>>);

impl Queues {
    /// Adds a queue, unless there is one with this identifier.
    pub(super) fn add(&mut self, id: u16, queue: QueueHandle) -> bool {
        let free = !self.0.contains_key(&id);
        if free {
            self.0.insert(id, Some(queue));
        }
        free
    }

    pub(super) fn remove(&mut self, id: u16) {
        self.0.remove(&id);
    }

    /// The connected queues.
    pub(super) fn ids(&self) -> Vec<u16> {
        self.0.keys().copied().collect()
    }

    /// The queues that have not been told to end, and who is at their other ends.
    pub(super) fn peers(&self) -> Vec<(u16, String)> {
        let queues = self.0.iter().filter_map(|(id, queue)| Some((*id, queue.as_ref()?)));
        queues.map(|(id, queue)| (id, queue.peer().to_owned())).collect()
    }

    /// Whether there are I/O queues that have not been told to end.
    pub(super) fn has_io(&self) -> bool {
        self.0.range(1..).any(|(_, queue)| queue.is_some())
    }

    /// Takes the handles of the I/O queues out.
    pub(super) fn take_io(&mut self) -> Vec<QueueHandle> {
        self.0.range_mut(1..).filter_map(|(_, queue)| queue.take()).collect()
    }

    /// Takes all handles out.
    pub(super) fn take_all(&mut self) -> Vec<QueueHandle> {
        self.0.values_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl EndQueue for Nobody {
        fn end(&self, _why: EndCause) {}

        fn peer(&self) -> &str {
            ""
        }
    }

    #[test]
    fn a_queue_keeps_its_identifier_until_its_connection_has_ended() {
        let mut queues = Queues::default();
        for id in [0, 1, 2] {
            assert!(queues.add(id, Arc::new(Nobody)));
        }
        assert!(!queues.add(1, Arc::new(Nobody)), "taken");
        assert_eq!(queues.take_io().len(), 2);
        assert!(!queues.has_io() && queues.take_io().is_empty());
        assert!(!queues.add(1, Arc::new(Nobody)), "still ending");
        queues.remove(1);
        assert!(queues.add(1, Arc::new(Nobody)) && queues.has_io());
        assert_eq!(queues.ids(), [0, 1, 2]);
        assert_eq!(queues.take_all().len(), 2);
    }
}
