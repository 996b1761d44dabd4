//! A namespace for the tests, whose hosts are called by numbers.

use super::{
    Acquire, AcquireAction, CurrentKey, Event, HostId, Outcome, PowerLossChange, Refusal, Register, RegisterAction,
    Release, ReleaseAction, ReservationKey, ReservationType, Reservations, Transition,
};

pub(super) const A: u8 = 1;
pub(super) const B: u8 = 2;
pub(super) const C: u8 = 3;
pub(super) const D: u8 = 4;

pub(super) fn host(name: u8) -> HostId {
    HostId::extended([name; 16]).expect("not zero")
}

pub(super) fn key(value: u64) -> ReservationKey {
    ReservationKey(value)
}

pub(super) type Answer = Result<Outcome, Refusal>;

pub(super) struct Node(Reservations);

impl Node {
    pub(super) fn volatile() -> Self {
        Self(Reservations::volatile())
    }

    pub(super) fn durable() -> Self {
        Self(Reservations::durable())
    }

    pub(super) fn with(registrants: &[(u8, u64)]) -> Self {
        let mut node = Self::volatile();
        for (name, key) in registrants {
            node.register(*name, *key).expect("registered");
        }
        node
    }

    pub(super) fn reservations(&self) -> &Reservations {
        &self.0
    }

    pub(super) fn install(&mut self, transition: Transition) -> Outcome {
        self.0.install(transition)
    }

    /// Works out and installs.
    pub(super) fn change(&mut self, work_out: impl FnOnce(&Reservations) -> Result<Transition, Refusal>) -> Answer {
        let transition = work_out(&self.0)?;
        Ok(self.0.install(transition))
    }

    pub(super) fn register(&mut self, name: u8, new: u64) -> Answer {
        self.send_register(name, RegisterAction::Register { new: key(new) })
    }

    pub(super) fn unregister(&mut self, name: u8, current: CurrentKey) -> Answer {
        self.send_register(name, RegisterAction::Unregister { current })
    }

    pub(super) fn replace(&mut self, name: u8, current: CurrentKey, new: u64) -> Answer {
        self.send_register(name, RegisterAction::Replace { current, new: key(new) })
    }

    pub(super) fn acquire(&mut self, name: u8, current: u64, kind: ReservationType) -> Answer {
        self.send_acquire(name, current, kind, AcquireAction::Acquire)
    }

    pub(super) fn preempt(&mut self, name: u8, current: u64, victims: u64, kind: ReservationType) -> Answer {
        self.send_acquire(name, current, kind, AcquireAction::Preempt { victims: key(victims) })
    }

    pub(super) fn preempt_and_abort(&mut self, name: u8, current: u64, victims: u64, kind: ReservationType) -> Answer {
        self.send_acquire(name, current, kind, AcquireAction::PreemptAndAbort { victims: key(victims) })
    }

    pub(super) fn release(&mut self, name: u8, current: u64, kind: ReservationType) -> Answer {
        self.send_release(name, current, ReleaseAction::Release { kind })
    }

    pub(super) fn clear(&mut self, name: u8, current: u64) -> Answer {
        self.send_release(name, current, ReleaseAction::Clear)
    }

    fn send_register(&mut self, name: u8, action: RegisterAction) -> Answer {
        self.change(|r| r.register(host(name), &Register { action, power_loss: PowerLossChange::Keep }))
    }

    fn send_acquire(&mut self, name: u8, current: u64, kind: ReservationType, action: AcquireAction) -> Answer {
        self.change(|r| r.acquire(host(name), &Acquire { current: key(current), kind, action }))
    }

    fn send_release(&mut self, name: u8, current: u64, action: ReleaseAction) -> Answer {
        self.change(|r| r.release(host(name), &Release { current: key(current), action }))
    }

    pub(super) fn generation(&self) -> u32 {
        self.0.report().generation()
    }

    pub(super) fn kind(&self) -> Option<ReservationType> {
        self.0.report().kind()
    }

    pub(super) fn keys(&self) -> Vec<(u8, u64)> {
        self.0.report().registrants().map(|one| (one.host.as_bytes()[0], one.key.0)).collect()
    }

    pub(super) fn holders(&self) -> Vec<u8> {
        self.0.report().registrants().filter(|one| one.holds).map(|one| one.host.as_bytes()[0]).collect()
    }

    pub(super) fn told(outcome: &Outcome) -> Vec<(u8, Event)> {
        outcome.notices.iter().map(|notice| (notice.host.as_bytes()[0], notice.event)).collect()
    }

    pub(super) fn names(hosts: &[HostId]) -> Vec<u8> {
        hosts.iter().map(|one| one.as_bytes()[0]).collect()
    }
}
