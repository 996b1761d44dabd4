//! The life of a controller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::testing::{Asking, ENABLE, Ended, Wish, World, command, done};
use super::super::wire::opcode::admin;
use super::super::wire::property::{cc, csts};
use super::*;

fn io_queue(world: &World, asking: &Asking, id: u16) -> Arc<Ended> {
    let ended = Arc::new(Ended::default());
    let connected = Wish::io("a", asking.controller.id(), id).connect(world, ended.clone(), Instant::now());
    connected.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    ended
}

#[test]
fn commands_need_a_controller_that_is_ready() {
    let world = World::new();
    let asking = Asking::new(&world, &Wish::of("a")).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let sequence = Status::SEQUENCE_ERROR.final_one();
    assert_eq!(asking.identify(0x01, 0), Err(sequence));
    assert_eq!(asking.controller.may_do_io(), Err(sequence));
    asking.enable();
    assert!(asking.identify(0x01, 0).is_ok() && asking.controller.may_do_io().is_ok());
    assert!(asking.answer(admin::KEEP_ALIVE, 0, [0; 5]).status.is_success());
    for opcode in [0x00, 0x01, 0x0D, 0x10, 0x14, 0x80, 0x81, 0xC0, 0xFF] {
        assert_eq!(asking.answer(opcode, 0, [0; 5]).status, Status::INVALID_OPCODE.final_one(), "{opcode:x}");
    }
    let mut fused = command(admin::KEEP_ALIVE, 0, [0; 5], 0);
    fused.flags |= 1;
    assert_eq!(done(asking.controller.admin(&fused, &[])).status, Status::INVALID_FIELD.final_one());
    let abort = asking.ask(admin::ABORT, 0, [0x0007_0002, 0, 0, 0, 0]);
    assert!(matches!(abort, Admin::Abort { queue_id: 2, cid: 7 }));
}

#[test]
fn a_queue_is_connected_once_and_other_fabrics_commands_are_unknown() {
    let asking = World::new().ready("a");
    for (kind, status) in
        [(0x01, Status::SEQUENCE_ERROR), (0x08, Status::INVALID_OPCODE), (0x3F, Status::INVALID_OPCODE)]
    {
        assert_eq!(asking.answer(FABRICS, kind, [0; 5]).status, status.final_one(), "{kind:x}");
    }
}

#[test]
fn a_reset_ends_the_io_queues_and_keeps_the_admin_queue() {
    let world = World::new();
    let asking = world.ready("a");
    let io = io_queue(&world, &asking, 1);
    done(asking.property_set(cc::OFFSET, ENABLE & !cc::EN));
    assert_eq!((io.causes(), asking.ended.causes()), (vec![EndCause::Reset], vec![]));
    assert_eq!(asking.property_get(csts::OFFSET), 0);
    assert!(asking.controller.may_do_io().is_err());
    asking.enable();
    assert!(Wish::io("a", asking.controller.id(), 1).connect(&world, Arc::default(), Instant::now()).is_err());
    asking.controller.queue_ended(1);
    let again = io_queue(&world, &asking, 1);
    asking.controller.end(EndCause::KeepAliveExpired);
    assert_eq!(again.causes(), [EndCause::KeepAliveExpired]);
    assert_eq!(asking.ended.causes(), [EndCause::KeepAliveExpired]);
    asking.controller.queue_ended(0);
    assert_eq!(asking.ended.causes().len(), 1, "ended once");
    assert_eq!(asking.controller.ended(), Some(EndCause::KeepAliveExpired));
}

#[test]
fn a_shutdown_is_complete_when_the_disks_are_flushed() {
    let world = World::new();
    world.subsystem.attach(world.add("d0", false).nsid(), "a").expect("attached");
    for (outcome, status) in [(Ok(()), 0b1001), (Err(Status::WRITE_FAULT), 0b1011)] {
        let asking = world.ready("a");
        let io = io_queue(&world, &asking, 1);
        let Admin::Flush(flush) = asking.property_set(cc::OFFSET, ENABLE | 1 << 14) else { panic!("no flush") };
        assert_eq!(flush.namespaces.len(), 1);
        assert_eq!(asking.property_get(csts::OFFSET), 0b0101, "under way");
        assert!(asking.controller.may_do_io().is_err() && io.causes().is_empty());
        assert_eq!(asking.controller.flushed(&flush, outcome), Answer::result(0));
        assert_eq!(asking.property_get(csts::OFFSET), status);
        assert_eq!((io.causes(), asking.ended.causes()), (vec![EndCause::ShutDown], vec![]));
        assert_eq!(asking.identify(0x01, 0), Err(Status::SEQUENCE_ERROR.final_one()));
        asking.controller.queue_ended(0);
    }
}

#[test]
fn a_shutdown_that_a_reset_overtook_ends_nothing() {
    let world = World::new();
    let asking = world.ready("a");
    let Admin::Flush(flush) = asking.property_set(cc::OFFSET, ENABLE | 1 << 14) else { panic!("no flush") };
    done(asking.property_set(cc::OFFSET, 0));
    asking.enable();
    let io = io_queue(&world, &asking, 1);
    assert_eq!(asking.controller.flushed(&flush, Ok(())), Answer::result(0));
    assert!(io.causes().is_empty() && asking.controller.may_do_io().is_ok());
}

#[test]
fn the_keep_alive_timer_runs_while_the_controller_is_ready() {
    let world = World::new();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let connect = |wish: Wish| {
        let connected = wish.connect(&world, Arc::default(), start).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        Asking { controller: connected.controller, ended: Arc::default() }
    };
    let asking = connect(Wish::of("a"));
    assert!(!asking.controller.is_expired(at(119)) && asking.controller.is_expired(at(121)), "held for two minutes");
    asking.enable();
    assert!(!asking.controller.is_expired(at(6)) && asking.controller.is_expired(at(7)));
    asking.controller.touch(at(100));
    assert!(!asking.controller.is_expired(at(106)) && asking.controller.is_expired(at(107)));
    done(asking.set_feature(0x0F, 0, 20_000));
    assert_eq!(asking.controller.keep_alive_time(), Duration::from_secs(20));
    assert!(!asking.controller.is_expired(at(121)) && asking.controller.is_expired(at(122)));
    let _ = asking.property_set(cc::OFFSET, ENABLE | 1 << 14);
    assert!(!asking.controller.is_expired(at(219)), "a shutdown stops the timer");

    let silent = connect(Wish { keep_alive_ms: 0, ..Wish::of("a") });
    silent.enable();
    assert!(!silent.controller.is_expired(at(1 << 30)), "the host wants no timer");
    let discovery = super::super::subsystem::DISCOVERY_NQN.to_owned();
    let looking = connect(Wish { keep_alive_ms: 0, subsystem: discovery.clone(), ..Wish::of("a") });
    looking.enable();
    assert!(looking.controller.is_expired(at(121)), "discovery without a timer is not for ever");
    let persistent = connect(Wish { keep_alive_ms: 300_000, subsystem: discovery, ..Wish::of("a") });
    persistent.enable();
    assert!(!persistent.controller.is_expired(at(300)) && persistent.controller.is_expired(at(302)));
}

/// A few bytes that look random; the same for each run (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly small numbers and numbers at the edge: those reach further than any others.
    fn dword(&mut self) -> u32 {
        match self.next() % 4 {
            0 => self.next() as u32 % 8,
            1 => u32::MAX - self.next() as u32 % 4,
            2 => 1 << (self.next() % 32),
            _ => self.next() as u32,
        }
    }
}

#[test]
fn any_command_gets_an_answer_that_fits() {
    const OPCODES: [u8; 9] = [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
        0x7F,
        0xC0,
    ];
    let world = World::new();
    world.subsystem.attach(world.add("d0", true).nsid(), "a").expect("attached");
    let controllers = [world.ready("a"), world.discovering("a")];
    let mut random = Random(0x5EED);
    for round in 0..200_000 {
        let asking = &controllers[round % 2];
        let room = [0, 4, 16, 512, 4096, LARGEST][random.next() as usize % 6];
        let opcode = OPCODES[random.next() as usize % OPCODES.len()];
        let mut command = command(opcode, random.dword(), std::array::from_fn(|_| random.dword()), room);
        if random.next().is_multiple_of(2) {
            // Small identifiers, of pages, features and properties.
            command.cdw10 = (command.cdw10.get() & 0xFFFF_0000 | random.next() as u32 & 0xFF).into();
        }
        let data = vec![random.next() as u8 & 1; room as usize];
        match asking.controller.admin(&command, &data) {
            Admin::Done(answer) => {
                let len = answer.data.map_or(0, |data| data.len());
                assert!(len <= room as usize, "{command:?}");
                assert!(answer.status.is_success() || len == 0, "{command:?}");
            }
            Admin::Flush(flush) => assert!(asking.controller.flushed(&flush, Ok(())).status.is_success()),
            _ => {}
        }
        if round % 64 < 2 {
            let _ = asking.property_set(cc::OFFSET, 0);
            asking.enable();
        }
    }
}

const LARGEST: u32 = super::super::subsystem::LARGEST_TRANSFER;
