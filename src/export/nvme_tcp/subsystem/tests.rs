//! Who gets in and who sees what.

use std::sync::Arc;
use std::time::Instant;

use super::super::controller::EndCause;
use super::super::testing::{ACCOUNT, Asking, Ended, Wish, World, disk, done, host, nqn, policy};
use super::super::wire::property::cc;
use super::super::wire::status::Status;
use super::*;
use crate::crypto::xts::SectorSize;

const INVALID: Status = Status::CONNECT_INVALID_PARAMETERS.final_one();
/// The wrong field is in the data.
const IN_DATA: u64 = 1 << 16;

fn seen(asking: &Asking) -> Vec<u32> {
    asking.controller.namespaces().iter().map(|namespace| namespace.nsid()).collect()
}

#[test]
fn a_host_that_is_let_in_gets_a_controller() {
    let world = World::new();
    let wish = Wish { attributes: 1 << 2, ..Wish::of("a") };
    let connected = wish.connect(&world, Arc::default(), Instant::now()).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((connected.queue_id, connected.entries, connected.sq_flow_control), (0, 32, false));
    assert_eq!(connected.result(), u64::from(connected.controller.id()));
    assert_eq!(connected.controller.host(), &nqn("a"));
    assert_eq!(world.subsystem.controllers().len(), 1);
    let strict = Host { authentication: Some(policy("strict")), ..host("strict") };
    world.subsystems.add_host(ACCOUNT, strict).expect("let in");
    let connected = Wish::of("strict").connect(&world, Arc::default(), Instant::now());
    let connected = connected.unwrap_or_else(|e| panic!("{e:?}"));
    assert!(connected.authentication().is_some());
    assert_eq!(connected.result() >> 16, 0b10, "AUTHREQ.ATR");
}

#[test]
fn a_connect_that_does_not_fit_is_told_which_field() {
    let world = World::new();
    let fits = Wish::of("a");
    let long = format!("nqn.{}", "x".repeat(220));
    for (wish, status, result) in [
        (Wish { record_format: 1, ..fits.clone() }, Status::CONNECT_INCOMPATIBLE_FORMAT.final_one(), 0),
        (Wish { queue_size: 0, ..fits.clone() }, INVALID, 44),
        (Wish { queue_size: 128, ..fits.clone() }, INVALID, 44),
        (Wish { host_id: [0; 16], ..fits.clone() }, INVALID, IN_DATA),
        (Wish { controller_id: 1, ..fits.clone() }, INVALID, IN_DATA | 16),
        (Wish { subsystem: "nqn.2026-11.io.strongroom:other".to_owned(), ..fits.clone() }, INVALID, IN_DATA | 256),
        (Wish { subsystem: String::new(), ..fits.clone() }, INVALID, IN_DATA | 256),
        (Wish { subsystem: long.clone(), ..fits.clone() }, INVALID, IN_DATA | 256),
        (Wish { host: long, ..fits.clone() }, INVALID, IN_DATA | 512),
        (Wish { host: "iqn.x".to_owned(), ..fits.clone() }, INVALID, IN_DATA | 512),
        (Wish::of("nobody"), Status::CONNECT_INVALID_HOST.final_one(), 0),
        (Wish { queue_id: 1, controller_id: 77, ..fits.clone() }, INVALID, IN_DATA | 16),
        (Wish { queue_id: 1, subsystem: DISCOVERY_NQN.to_owned(), ..fits.clone() }, INVALID, 42),
    ] {
        assert_eq!(wish.refused(&world), (status, result), "{} {}", wish.host, wish.subsystem);
    }
    assert!(world.subsystem.controllers().is_empty());
}

#[test]
fn an_io_queue_joins_its_own_controller_only() {
    let world = World::new();
    let asking = Asking::new(&world, &Wish::of("a")).unwrap_or_else(|e| panic!("{e:?}"));
    let id = asking.controller.id();
    let sequence = (Status::SEQUENCE_ERROR.final_one(), 0);
    assert_eq!(Wish::io("a", id, 1).refused(&world), sequence, "not enabled");
    asking.enable();
    let queue = Arc::new(Ended::default());
    let connected = Wish::io("a", id, 1).connect(&world, queue.clone(), Instant::now());
    let connected = connected.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((connected.queue_id, connected.entries, connected.controller.id()), (1, 128, id));
    assert_eq!(asking.controller.queues(), [0, 1]);
    assert_eq!(Wish::io("a", id, 1).refused(&world), sequence, "there is one");
    assert_eq!(Wish::io("a", id, 65).refused(&world), (INVALID, 42), "beyond what is granted");
    assert_eq!(Wish::io("b", id, 2).refused(&world), (INVALID, IN_DATA | 512), "another host");
    let other_id = Wish { host_id: [9; 16], ..Wish::io("a", id, 2) };
    assert_eq!(other_id.refused(&world), (INVALID, IN_DATA), "another host identifier");
    asking.controller.queue_ended(0);
    assert_eq!(queue.causes(), [EndCause::AdminQueueEnded]);
    assert_eq!(Wish::io("a", id, 2).refused(&world), (INVALID, IN_DATA | 16), "it has ended");
    assert!(world.subsystem.controllers().is_empty());
}

#[test]
fn two_machines_with_one_identity_do_not_get_in_together() {
    let world = World::new();
    let first = world.ready("a");
    let refused = (Status::CONNECT_INVALID_HOST, 0);
    assert_eq!(Wish { host_id: [9; 16], ..Wish::of("a") }.refused(&world), refused, "same NQN");
    assert_eq!(Wish { host_id: [b'a'; 16], ..Wish::of("b") }.refused(&world), refused, "same host identifier");
    let second = world.ready("a");
    assert_ne!(first.controller.id(), second.controller.id(), "one machine may have several controllers");
    let pinned = Host { id: Some(HostId([7; 16])), ..host("pinned") };
    world.subsystems.add_host(ACCOUNT, pinned).expect("let in");
    assert_eq!(Wish::of("pinned").refused(&world), (Status::CONNECT_INVALID_HOST.final_one(), 0));
    Asking::new(&world, &Wish { host_id: [7; 16], ..Wish::of("pinned") }).unwrap_or_else(|e| panic!("{e:?}"));
}

#[test]
fn a_name_that_was_not_proven_keeps_nobody_out() {
    let world = World::new();
    world
        .subsystems
        .add_host(ACCOUNT, Host { authentication: Some(policy("strict")), ..host("strict") })
        .expect("let in");
    let connect = |wish: Wish| Asking::new(&world, &wish).unwrap_or_else(|e| panic!("{e:?}"));
    let stranger = connect(Wish { host_id: [9; 16], ..Wish::of("strict") });
    let thief = connect(Wish { host_id: [b'a'; 16], ..Wish::of("strict") });
    let real = connect(Wish::of("strict"));
    world.ready("a");
    assert_eq!(real.controller.authenticated(), Ok(()));
    assert_eq!(stranger.controller.authenticated(), Err(Status::CONNECT_INVALID_HOST), "same NQN");
    assert_eq!(thief.controller.authenticated(), Err(Status::CONNECT_INVALID_HOST), "same host identifier");
    assert_eq!(real.controller.authenticated(), Ok(()), "again, after a new authentication");
    real.controller.queue_ended(0);
    assert_eq!(stranger.controller.authenticated(), Ok(()), "the other has gone");
}

#[test]
fn identifiers_of_controllers_come_again_late() {
    let world = World::new();
    let mut last = 0;
    for _ in 0..10 {
        let asking = world.ready("a");
        assert!(asking.controller.id() > last);
        last = asking.controller.id();
        asking.controller.queue_ended(0);
    }
}

#[test]
fn a_disk_that_is_not_shared_has_one_host() {
    let world = World::new();
    let (own, shared) = (world.add("own", false), world.add("shared", true));
    let (a, b) = (world.ready("a"), world.ready("b"));
    assert!(seen(&a).is_empty());
    let before = a.controller.view_version();
    world.subsystem.attach(own.nsid(), "a").expect("attached");
    assert_ne!(a.controller.view_version(), before);
    world.subsystem.attach(own.nsid(), "a").expect("again");
    assert_eq!(a.controller.view_version(), before + 1, "nothing changed the second time");
    let refused = world.subsystem.attach(own.nsid(), "b").expect_err("refused").to_string();
    assert!(refused.contains("disk own is not shared and is attached to host a"), "{refused}");
    world.subsystem.attach(shared.nsid(), "a").expect("attached");
    world.subsystem.attach(shared.nsid(), "b").expect("attached");
    assert_eq!((seen(&a), seen(&b)), (vec![1, 2], vec![2]));
    assert_eq!(seen(&world.ready("a")), [1, 2], "a later controller sees the same");
    world.subsystem.detach(own.nsid(), "a").expect("detached");
    world.subsystem.attach(own.nsid(), "b").expect("free now");
    assert_eq!((seen(&a), seen(&b)), (vec![2], vec![1, 2]));
    world.subsystem.remove_namespace(shared.nsid()).expect("removed");
    assert_eq!((seen(&a), seen(&b)), (vec![], vec![1]));
    assert!(a.controller.sees(1).is_none() && b.controller.sees(1).is_some());
}

#[test]
fn the_inventory_refuses_what_would_mix_things_up() {
    let world = World::new();
    let namespace = world.add("d0", false);
    let options = NamespaceOptions { nsid: None, uuid: [5; 16], shared: false, reservation_capabilities: 0 };
    let add =
        |subsystem: &Subsystem, name: &str, options| subsystem.add_namespace(disk(name, SectorSize::B512), options);
    for (name, options) in [
        ("d0", options),
        ("d1", NamespaceOptions { uuid: namespace.uuid(), ..options }),
        ("d1", NamespaceOptions { nsid: Some(1), ..options }),
        ("d1", NamespaceOptions { nsid: Some(0), ..options }),
        ("d1", NamespaceOptions { nsid: Some(NAMESPACES + 1), ..options }),
    ] {
        assert!(add(&world.subsystem, name, options).is_err(), "{name} {:?}", options.nsid);
    }
    let other = world.subsystems.add_subsystem("other").expect("added");
    assert_eq!(add(&other, "d0", options).err(), Some(InventoryError::DiskElsewhere("d0".to_owned())));
    world.subsystem.remove_namespace(1).expect("removed");
    add(&other, "d0", NamespaceOptions { nsid: Some(NAMESPACES), ..options }).expect("free now");

    assert!(world.subsystems.add_subsystem(ACCOUNT).is_err());
    assert!(world.subsystems.add_host(ACCOUNT, host("a")).is_err());
    assert!(world.subsystems.add_host(ACCOUNT, Host { name: "c".to_owned(), ..host("a") }).is_err());
    assert!(world.subsystems.add_host("nobody", host("a")).is_err());
    assert!(world.subsystem.attach(1, "a").is_err() && world.subsystem.attach(1, "nobody").is_err());
    assert!(world.subsystem.resized(1).is_err() && world.subsystem.remove_namespace(1).is_err());
}

#[test]
fn removing_a_host_or_a_subsystem_ends_its_controllers() {
    let world = World::new();
    let namespace = world.add("d0", false);
    world.subsystem.attach(namespace.nsid(), "a").expect("attached");
    let (a, b) = (world.ready("a"), world.ready("b"));
    let io = Arc::new(Ended::default());
    Wish::io("a", a.controller.id(), 1).connect(&world, io.clone(), Instant::now()).unwrap_or_else(|e| panic!("{e:?}"));
    world.subsystems.remove_host(ACCOUNT, "a").expect("removed");
    assert_eq!((a.ended.causes(), io.causes()), (vec![EndCause::HostRemoved], vec![EndCause::HostRemoved]));
    assert_eq!(a.controller.ended(), Some(EndCause::HostRemoved));
    assert!(a.controller.may_do_io().is_err() && b.controller.ended().is_none());
    assert!(Asking::new(&world, &Wish::of("a")).is_err());
    world.subsystem.attach(namespace.nsid(), "b").expect("free again");
    done(a.property_set(cc::OFFSET, 0));
    done(a.property_set(cc::OFFSET, super::super::testing::ENABLE));
    assert!(a.controller.may_do_io().is_err(), "an ended controller stays ended");
    world.subsystems.remove_subsystem(ACCOUNT).expect("removed");
    assert_eq!(b.ended.causes(), [EndCause::SubsystemRemoved]);
    assert_eq!(Wish::of("b").refused(&world), (INVALID, IN_DATA | 256));
    assert!(world.subsystem.controllers().is_empty());
}
