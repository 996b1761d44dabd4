//! Random commands against a model of the rules that keeps its state in another way, from seeds that a failure names.
//!
//! After each command: same answer, notices and aborts as the model's; who holds is registered, and there is one holder or all
//! registrants are; every host's access is that of the table; the generation counts each success that counts, and nothing
//! else; a refused command changes nothing; the state goes through the file format and back.

use std::collections::BTreeMap;

use super::testing::{host, key};
use super::{
    Acquire, AcquireAction, CurrentKey, Durability, Event, Outcome, PowerLossChange, Refusal, Register, RegisterAction,
    Release, ReleaseAction, ReservationType, Reservations, image,
};

const HOSTS: u8 = 5;
const KEYS: u64 = 4;
const SEEDS: u64 = 400;
const COMMANDS: usize = 250;

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Register(Register),
    Acquire(Acquire),
    Release(Release),
    Persistence(PowerLossChange),
}

/// Keys by host, and the set of holders spelled out.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    keys: BTreeMap<u8, u64>,
    kind: Option<ReservationType>,
    holders: Vec<u8>,
    generation: u32,
    survives: bool,
}

/// What the model says: who is told what, and whose commands are aborted.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    told: BTreeMap<u8, Event>,
    aborts: Vec<u8>,
}

fn random_command(numbers: &mut Numbers, model: &Model, name: u8) -> Command {
    let own = model.keys.get(&name).copied();
    // Mostly the right key, so that commands get somewhere.
    let current = match own {
        Some(own) if numbers.below(8) > 0 => own,
        _ => numbers.below(KEYS),
    };
    let other = numbers.below(KEYS);
    let kind = match model.kind {
        Some(kind) if numbers.below(3) > 0 => kind,
        _ => ReservationType::ALL[numbers.below(6) as usize],
    };
    let power_loss = match numbers.below(12) {
        0 => PowerLossChange::Forget,
        1..4 => PowerLossChange::Survive,
        _ => PowerLossChange::Keep,
    };
    let checked = if numbers.below(4) == 0 { CurrentKey::Ignored } else { CurrentKey::Given(key(current)) };
    let register = |action| Command::Register(Register { action, power_loss });
    let acquire = |action| Command::Acquire(Acquire { current: key(current), kind, action });
    let release = |action| Command::Release(Release { current: key(current), action });
    match numbers.below(24) {
        0..6 => register(RegisterAction::Register { new: key(other) }),
        6..8 => register(RegisterAction::Unregister { current: checked }),
        8..10 => register(RegisterAction::Replace { current: checked, new: key(other) }),
        10..14 => acquire(AcquireAction::Acquire),
        14..17 => acquire(AcquireAction::Preempt { victims: key(other) }),
        17..19 => acquire(AcquireAction::PreemptAndAbort { victims: key(other) }),
        19..22 => release(ReleaseAction::Release { kind }),
        22 => release(ReleaseAction::Clear),
        _ => Command::Persistence(power_loss),
    }
}

impl Model {
    fn run(&mut self, name: u8, command: Command) -> Result<Expected, Refusal> {
        let mut next = self.clone();
        let expected = match command {
            Command::Register(request) => {
                next.persist(request.power_loss);
                let expected = next.register(name, request.action)?;
                next.generation += 1;
                expected
            }
            Command::Acquire(request) => {
                next.demand(name, request.current.0)?;
                match request.action {
                    AcquireAction::Acquire => next.acquire(name, request.kind)?,
                    AcquireAction::Preempt { victims } => {
                        Expected { aborts: Vec::new(), ..next.preempt(name, victims.0, request.kind)? }
                    }
                    AcquireAction::PreemptAndAbort { victims } => next.preempt(name, victims.0, request.kind)?,
                }
            }
            Command::Release(request) => {
                next.demand(name, request.current.0)?;
                next.release(name, request.action)?
            }
            Command::Persistence(change) => {
                next.persist(change);
                Expected::default()
            }
        };
        *self = next;
        Ok(expected)
    }

    fn persist(&mut self, change: PowerLossChange) {
        match change {
            PowerLossChange::Keep => {}
            PowerLossChange::Forget => self.survives = false,
            PowerLossChange::Survive => self.survives = true,
        }
    }

    fn demand(&self, name: u8, current: u64) -> Result<(), Refusal> {
        match self.keys.get(&name) {
            Some(own) if *own == current => Ok(()),
            _ => Err(Refusal::ReservationConflict),
        }
    }

    fn others(&self, name: u8) -> Vec<u8> {
        self.keys.keys().copied().filter(|other| *other != name).collect()
    }

    /// Who registers joins a reservation of all registrants; a reservation without holders is none.
    fn settle(&mut self) {
        if self.kind.is_some_and(ReservationType::all_registrants_hold) {
            self.holders = self.keys.keys().copied().collect();
        }
        self.holders.retain(|holder| self.keys.contains_key(holder));
        if self.holders.is_empty() {
            self.kind = None;
        }
    }

    fn told(hosts: Vec<u8>, event: Event) -> Expected {
        Expected { told: hosts.into_iter().map(|other| (other, event)).collect(), aborts: Vec::new() }
    }

    fn register(&mut self, name: u8, action: RegisterAction) -> Result<Expected, Refusal> {
        use ReservationType::{ExclusiveAccessRegistrantsOnly, WriteExclusiveRegistrantsOnly};
        let own = self.keys.get(&name).copied();
        let fits = |current| match current {
            CurrentKey::Ignored => true,
            CurrentKey::Given(key) => own == Some(key.0),
        };
        match action {
            RegisterAction::Register { new } | RegisterAction::Replace { new, .. } if new.0 == 0 => {
                return Err(Refusal::InvalidField);
            }
            RegisterAction::Register { new } if own.is_none_or(|own| own == new.0) => {
                self.keys.insert(name, new.0);
            }
            RegisterAction::Replace { current, new } if fits(current) => {
                self.keys.insert(name, new.0);
            }
            RegisterAction::Unregister { current } if fits(current) => {
                let kind = self.kind;
                self.keys.remove(&name);
                self.settle();
                let only = matches!(kind, Some(WriteExclusiveRegistrantsOnly | ExclusiveAccessRegistrantsOnly));
                if only && self.kind.is_none() {
                    return Ok(Self::told(self.others(name), Event::ReservationReleased));
                }
            }
            _ => return Err(Refusal::ReservationConflict),
        }
        self.settle();
        Ok(Expected::default())
    }

    fn acquire(&mut self, name: u8, kind: ReservationType) -> Result<Expected, Refusal> {
        match self.kind {
            None => {
                self.kind = Some(kind);
                self.holders = vec![name];
                self.settle();
                Ok(Expected::default())
            }
            Some(held) if held == kind && self.holders.contains(&name) => Ok(Expected::default()),
            Some(_) => Err(Refusal::ReservationConflict),
        }
    }

    fn preempt(&mut self, name: u8, victims: u64, kind: ReservationType) -> Result<Expected, Refusal> {
        let all = self.kind.is_some_and(ReservationType::all_registrants_hold);
        let of_holder = !all && self.kind.is_some() && self.keys.get(&self.holders[0]) == Some(&victims);
        let before = self.kind;
        let named = |other: &u8, keys: &BTreeMap<u8, u64>| victims == 0 || keys[other] == victims;
        let gone: Vec<u8>;
        if of_holder || (all && victims == 0) {
            gone = self.others(name).into_iter().filter(|other| named(other, &self.keys)).collect();
            self.kind = Some(kind);
            self.holders = vec![name];
        } else if victims == 0 {
            return Err(Refusal::InvalidField);
        } else {
            gone = self.keys.keys().copied().filter(|other| named(other, &self.keys)).collect();
            if gone.is_empty() {
                return Err(Refusal::ReservationConflict);
            }
        }
        self.keys.retain(|other, _| !gone.contains(other));
        self.settle();
        self.generation += 1;
        let mut expected = Expected::default();
        if before.is_some() && self.kind.is_some() && before != self.kind {
            expected = Self::told(self.others(name), Event::ReservationReleased);
        }
        for victim in gone.into_iter().filter(|victim| *victim != name) {
            expected.told.insert(victim, Event::RegistrationPreempted);
            expected.aborts.push(victim);
        }
        Ok(expected)
    }

    fn release(&mut self, name: u8, action: ReleaseAction) -> Result<Expected, Refusal> {
        let others = self.others(name);
        match action {
            ReleaseAction::Clear => {
                *self = Self { generation: self.generation + 1, survives: self.survives, ..Self::default() };
                Ok(Self::told(others, Event::ReservationPreempted))
            }
            ReleaseAction::Release { .. } if !self.holders.contains(&name) => Ok(Expected::default()),
            ReleaseAction::Release { kind } if self.kind != Some(kind) => Err(Refusal::InvalidField),
            ReleaseAction::Release { kind } => {
                self.kind = None;
                self.holders.clear();
                let exclusive = matches!(kind, ReservationType::WriteExclusive | ReservationType::ExclusiveAccess);
                Ok(if exclusive { Expected::default() } else { Self::told(others, Event::ReservationReleased) })
            }
        }
    }

    /// The table of types, row by row: read and write of holder, registrant and stranger.
    fn access(&self, name: u8) -> (bool, bool) {
        let Some(kind) = self.kind else { return (true, true) };
        let [holder, registrant, stranger] = match kind.code() {
            1 => [(true, true), (true, false), (true, false)],
            2 => [(true, true), (false, false), (false, false)],
            3 | 5 => [(true, true), (true, true), (true, false)],
            _ => [(true, true), (true, true), (false, false)],
        };
        match (self.holders.contains(&name), self.keys.contains_key(&name)) {
            (true, _) => holder,
            (false, true) => registrant,
            (false, false) => stranger,
        }
    }
}

fn observed(outcome: &Outcome) -> Expected {
    let mut aborts: Vec<u8> = outcome.aborts.iter().map(|one| one.as_bytes()[0]).collect();
    aborts.sort_unstable();
    let told: BTreeMap<u8, Event> =
        outcome.notices.iter().map(|notice| (notice.host.as_bytes()[0], notice.event)).collect();
    assert_eq!(told.len(), outcome.notices.len(), "a host was told twice");
    Expected { told, aborts }
}

fn compare(reservations: &Reservations, model: &Model) {
    let report = reservations.report();
    let keys: BTreeMap<u8, u64> = report.registrants().map(|one| (one.host.as_bytes()[0], one.key.0)).collect();
    let mut holders: Vec<u8> = report.registrants().filter(|one| one.holds).map(|one| one.host.as_bytes()[0]).collect();
    holders.sort_unstable();
    assert_eq!(keys, model.keys);
    assert_eq!(keys.len(), report.registrants().len());
    assert_eq!(report.kind(), model.kind);
    assert_eq!(holders, model.holders);
    assert_eq!(report.generation(), model.generation);
    assert_eq!(report.survives_power_loss(), model.survives);
    match report.kind() {
        None => assert_eq!(holders.len(), 0),
        Some(kind) if kind.all_registrants_hold() => assert_eq!(holders.len(), keys.len()),
        Some(_) => assert_eq!(holders.len(), 1),
    }
    for name in 1..=HOSTS {
        let access = reservations.access(&host(name));
        assert_eq!((access.may_read(), access.may_write()), model.access(name), "access of {name}");
    }
}

#[test]
fn random_commands_do_what_the_model_says() {
    let mut refused = 0;
    let mut told = 0;
    for seed in 0..SEEDS {
        let mut numbers = Numbers(seed);
        let mut model = Model::default();
        let mut reservations = Reservations::durable();
        for step in 0..COMMANDS {
            let name = 1 + numbers.below(u64::from(HOSTS)) as u8;
            let command = random_command(&mut numbers, &model, name);
            let context = format!("seed {seed}, step {step}: host {name} sends {command:?} to {model:?}");
            let before = reservations.state.clone();
            let transition = match &command {
                Command::Register(request) => reservations.register(host(name), request),
                Command::Acquire(request) => reservations.acquire(host(name), request),
                Command::Release(request) => reservations.release(host(name), request),
                Command::Persistence(change) => reservations.change_persistence(*change),
            };
            let expected = model.run(name, command);
            match (transition, expected) {
                (Err(refusal), Err(expected)) => {
                    assert_eq!(refusal, expected, "{context}");
                    assert_eq!(reservations.state, before, "{context}");
                    refused += 1;
                }
                (Ok(transition), Ok(expected)) => {
                    assert_eq!(transition.next.check(), Ok(()), "{context}");
                    let durability = match (before.survives_power_loss, model.survives) {
                        (_, true) if transition.next != before => Durability::Write,
                        (true, false) => Durability::Remove,
                        _ => Durability::Unconcerned,
                    };
                    assert_eq!(transition.durability(), durability, "{context}");
                    assert!(transition.next.generation >= before.generation, "{context}");
                    if durability == Durability::Write {
                        let bytes = image::encode("model", &transition.next).expect("encoded");
                        assert_eq!(image::decode("model", &bytes).as_ref(), Ok(&transition.next), "{context}");
                    }
                    let mut outcome = observed(&reservations.install(transition));
                    outcome.aborts.sort_unstable();
                    assert_eq!(outcome, expected, "{context}");
                    told += expected.told.len();
                }
                (transition, expected) => panic!("{context}: {transition:?}, the model says {expected:?}"),
            }
            eprintln_on_panic(&context, || compare(&reservations, &model));
        }
    }
    assert!(refused > 1000 && told > 1000, "the commands get somewhere: {refused} refused, {told} told");
}

/// Names the seed when a comparison fails.
fn eprintln_on_panic(context: &str, check: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(panic) = std::panic::catch_unwind(check) {
        eprintln!("{context}");
        std::panic::resume_unwind(panic);
    }
}
