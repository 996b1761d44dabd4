//! The controllers of a subsystem, by identifier.
//!
//! An identifier that was given back comes again as late as possible: a host that still speaks of its old controller then meets none, and not
//! somebody else's (Base section 3.1.1, dynamic controller model).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::controller::Controller;

/// The first identifier; 0 would do, but reads like a mistake.
const FIRST: u16 = 1;
/// The last identifier: FFF0h and up are reserved (Base section 6.3, CNTLID).
const LAST: u16 = 0xFFEF;

/// The controllers of a subsystem.
pub(in super::super) struct Controllers {
    by_id: BTreeMap<u16, Arc<Controller>>,
    next: u16,
}

impl Default for Controllers {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), next: FIRST }
    }
}

impl Controllers {
    /// Makes a controller under the next free identifier; `None` if there is none.
    pub(in super::super) fn add(&mut self, make: impl FnOnce(u16) -> Arc<Controller>) -> Option<Arc<Controller>> {
        let id = (self.next..=LAST).chain(FIRST..self.next).find(|id| !self.by_id.contains_key(id))?;
        self.next = if id == LAST { FIRST } else { id + 1 };
        let controller = make(id);
        self.by_id.insert(id, controller.clone());
        Some(controller)
    }

    pub(in super::super) fn get(&self, id: u16) -> Option<&Arc<Controller>> {
        self.by_id.get(&id)
    }

    pub(in super::super) fn remove(&mut self, id: u16) {
        self.by_id.remove(&id);
    }

    pub(in super::super) fn iter(&self) -> impl Iterator<Item = &Arc<Controller>> {
        self.by_id.values()
    }
}
