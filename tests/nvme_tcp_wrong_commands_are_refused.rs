//! A wrong NVMe/TCP command is refused with the status of the specification and changes nothing; its connection, and all others, go on.

mod common;

use common::nvme_client::{CC, Digests, Host, Said, Wish, admin, blocks, command, in_capsule, transport};
use common::nvme_target::{NvmeTarget, SUBSYSTEM, admin_wish, host_nqn, io_wish};
use common::{device, encrypted};
use strongroom::crypto::xts::SectorSize;
use strongroom::export::nvme_tcp::wire::command::Command;
use strongroom::export::nvme_tcp::wire::opcode::admin as admin_op;
use strongroom::export::nvme_tcp::wire::opcode::io::{
    COMPARE, DATASET_MANAGEMENT, FLUSH, READ, RESERVATION_ACQUIRE, RESERVATION_REGISTER, RESERVATION_REPORT, VERIFY,
    WRITE, WRITE_ZEROES,
};
use strongroom::export::nvme_tcp::wire::opcode::{FABRICS, fabrics};
use strongroom::export::nvme_tcp::wire::status::Status;

/// 16 MiB in sectors of 4096 bytes.
const BLOCKS: u64 = 4096;
/// The largest transfer, in sectors.
const MOST: u32 = 64;

fn target() -> NvmeTarget {
    let dir = tempfile::tempdir().expect("a directory");
    let memory = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'";
    let disk = encrypted("d0", &device(&dir, memory), SectorSize::B4096);
    NvmeTarget::start(dir, 1, &[disk], "")
}

fn initialized(target: &NvmeTarget) -> Host {
    Host::initialized(target.address(), Digests::NONE, 1)
}

#[test]
fn commands_before_connect_and_connects_after_it() {
    let target = target();
    let mut early = initialized(&target);
    for command in [command(FLUSH, 1), admin(admin_op::IDENTIFY, 0, 1, 0), admin(admin_op::KEEP_ALIVE, 0, 0, 0)] {
        assert_eq!(early.run(command, &[]).status, Status::SEQUENCE_ERROR);
    }
    assert_eq!(early.set_property(CC, 1).status, Status::SEQUENCE_ERROR);
    // It is not too late.
    let controller = early.become_admin(&admin_wish("a"));
    assert_eq!(early.connect(&admin_wish("a")).status, Status::SEQUENCE_ERROR, "an Admin queue connects twice");
    let mut io = target.io("a", controller, 1, Digests::NONE, 1);
    assert_eq!(io.connect(&io_wish("a", controller, 1)).status, Status::SEQUENCE_ERROR);
    assert_eq!(io.connect(&io_wish("a", controller, 2)).status, Status::SEQUENCE_ERROR);
    assert_eq!(io.run(command(FLUSH, 1), &[]).status, Status::SUCCESS);
    drop((early, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn connects_that_do_not_fit() {
    let target = target();
    let (mut first, controller) = target.admin("a", Digests::NONE);
    let _queue = target.io("a", controller, 1, Digests::NONE, 1);
    let parameters = Status::CONNECT_INVALID_PARAMETERS;
    let (wish, io) = (admin_wish("a"), io_wish("a", controller, 2));
    let in_data = |offset: u64| 1 << 16 | offset;
    let refused: [(Wish, Status, u64, &str); 16] = [
        (Wish { format: 1, ..wish.clone() }, Status::CONNECT_INCOMPATIBLE_FORMAT, 0, "format"),
        (Wish { size: 0, ..wish.clone() }, parameters, 44, "a queue of one entry"),
        (Wish { size: 128, ..wish.clone() }, parameters, 44, "a queue that is too deep"),
        (Wish { size: 0xFFFF, ..io.clone() }, parameters, 44, "an I/O queue that is too deep"),
        (Wish { controller: 1, ..wish.clone() }, parameters, in_data(16), "a controller for an Admin queue"),
        (Wish { host_id: [0; 16], ..wish.clone() }, parameters, in_data(0), "no host identifier"),
        (Wish { subsystem: "".into(), ..wish.clone() }, parameters, in_data(256), "no subsystem"),
        (Wish { subsystem: format!("{SUBSYSTEM}x"), ..wish.clone() }, parameters, in_data(256), "unknown subsystem"),
        (Wish { host: "".into(), ..wish.clone() }, parameters, in_data(512), "no host"),
        (Wish { host: "x".repeat(256), ..wish.clone() }, parameters, in_data(512), "a name without end"),
        (Wish { controller: controller + 1000, ..io.clone() }, parameters, in_data(16), "unknown controller"),
        (Wish { controller: 0xFFFF, ..io.clone() }, parameters, in_data(16), "an I/O queue of a new controller"),
        (Wish { queue: 65, ..io.clone() }, parameters, 42, "a queue beyond the number of queues"),
        (Wish { queue: 0xFFFF, ..io.clone() }, parameters, 42, "the last queue"),
        (Wish { queue: 1, ..io.clone() }, Status::SEQUENCE_ERROR, 0, "a queue that is connected"),
        (Wish { host_id: [9; 16], ..io.clone() }, parameters, in_data(0), "another host identifier"),
    ];
    for (wish, status, result, why) in refused {
        let mut host = initialized(&target);
        let done = host.connect(&wish);
        assert_eq!((done.status, done.result), (status, result), "{why}");
        // A refused host may try again.
        assert_eq!(host.connect(&wish).status, status, "{why}, again");
    }
    let unknown = initialized(&target).connect(&Wish { host: host_nqn("z"), host_id: [77; 16], ..wish.clone() });
    assert_eq!(unknown.status, Status::CONNECT_INVALID_HOST);
    let mixed_up = initialized(&target).connect(&Wish { host_id: [78; 16], ..wish.clone() });
    assert_eq!(mixed_up.status, Status::CONNECT_INVALID_HOST, "a second machine with the same name");
    let other = Wish { host: host_nqn("b"), ..io.clone() };
    assert!(!initialized(&target).connect(&other).status.is_success(), "another host's controller");

    // Data that is not as long as that of Connect.
    for (data, status) in [
        (in_capsule(1023), Status::SGL_LENGTH_INVALID),
        (in_capsule(1025), Status::SGL_LENGTH_INVALID),
        (transport(0), Status::SGL_LENGTH_INVALID),
        (transport(4096), Status::SGL_LENGTH_INVALID),
    ] {
        let mut host = initialized(&target);
        let mut connect = wish.command();
        connect.data = data;
        let cid = host.send_as_is(connect, &[]);
        assert_eq!(host.finish(cid, &[]).status, status);
    }
    // Its data may be asked for.
    let mut host = initialized(&target);
    assert_eq!(host.run_asked(wish.command(), &wish.data()).status, Status::SUCCESS);
    assert_eq!(first.run(admin(admin_op::KEEP_ALIVE, 0, 0, 0), &[]).status, Status::SUCCESS);
    drop((first, _queue, host));
    target.expect_idle();
    target.stop();
}

#[test]
fn commands_whose_form_is_wrong() {
    let target = target();
    let (mut admin_queue, mut io) = target.both("a", Digests::NONE);
    assert_eq!(io.run(blocks(WRITE, 0, 2), &[0x5A; 8192]).status, Status::SUCCESS);
    for queue in [&mut admin_queue, &mut io] {
        for flags in [0x00, 0x80, 0xC0] {
            let wrong = Command { flags, ..command(FLUSH, 1) };
            assert_eq!(queue.run(wrong, &[]).status, Status::INVALID_FIELD, "PSDT {flags:#x}");
        }
        let reserved = Command { flags: 0x43, ..command(FLUSH, 1) };
        assert_eq!(queue.run(reserved, &[]).status, Status::INVALID_FIELD, "the reserved fused operation");
        let mut unknown = command(FABRICS, 0);
        for kind in [2u32, 3, 7, 9, 0x7F, 0xFF] {
            unknown.nsid = kind.into();
            assert_eq!(queue.run(unknown, &[]).status, Status::INVALID_OPCODE, "fabrics type {kind}");
        }
        unknown.nsid = u32::from(fabrics::AUTHENTICATION_SEND).into();
        assert_eq!(queue.run(unknown, &[]).status, Status::INVALID_OPCODE, "nobody has to authenticate");
    }
    for fuse in [0x41, 0x42] {
        let fused = Command { flags: fuse, ..admin(admin_op::KEEP_ALIVE, 0, 0, 0) };
        assert_eq!(admin_queue.run(fused, &[]).status, Status::INVALID_FIELD, "fused Admin commands");
    }
    for opcode in [0x00, 0x01, 0x04, 0x05, 0x0D, 0x10, 0x11, 0x14, 0x15, 0x19, 0x1A, 0x1D, 0x7C, 0x80, 0x84, 0xFC] {
        assert_eq!(admin_queue.run(admin(opcode, 0, 0, 0), &[]).status, Status::INVALID_OPCODE, "{opcode:#x}");
    }
    for opcode in [0x03, 0x04, 0x06, 0x07, 0x0A, 0x0B, 0x10, 0x12, 0x19, 0x79, 0x7D, 0x7E, 0x80, 0xFF] {
        assert_eq!(io.run(command(opcode, 1), &[]).status, Status::INVALID_OPCODE, "{opcode:#x}");
    }
    for nsid in [0, 2, 1025, u32::MAX - 1, u32::MAX] {
        for opcode in [READ, WRITE, WRITE_ZEROES, COMPARE, VERIFY, DATASET_MANAGEMENT, RESERVATION_REPORT] {
            assert_eq!(
                io.run(command(opcode, nsid), &[]).status,
                Status::INVALID_NAMESPACE,
                "{opcode:#x} on {nsid:#x}"
            );
        }
    }
    assert_eq!(io.run(command(FLUSH, u32::MAX), &[]).status, Status::SUCCESS, "all namespaces");
    assert_eq!(io.run(command(FLUSH, 0), &[]).status, Status::INVALID_NAMESPACE);
    // I/O on a controller that is not enabled.
    assert_eq!(admin_queue.set_property(CC, 0).status, Status::SUCCESS);
    assert!(io.is_closed(), "a reset ends the I/O queues");
    assert_eq!(admin_queue.run(admin(admin_op::IDENTIFY, 0, 1, 0), &[]).status, Status::SEQUENCE_ERROR);
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn data_that_is_named_wrongly() {
    let target = target();
    let (admin_queue, mut io) = target.both("a", Digests::NONE);
    assert_eq!(io.run(blocks(WRITE, 0, 4), &[0x5A; 8192]).status, Status::SGL_LENGTH_INVALID);
    assert_eq!(io.run(blocks(WRITE, 0, 2), &[0x5A; 8192]).status, Status::SUCCESS);
    let page = [1; 4096];
    let named = |opcode: u8, data| Command { data, ..blocks(opcode, 0, 1) };
    for opcode in [WRITE, COMPARE] {
        let mut offset = in_capsule(4096);
        offset.address = 4096.into();
        let mut far = in_capsule(4096);
        far.address = u64::MAX.into();
        let mut unknown = transport(4096);
        for (data, carried, status, why) in [
            (in_capsule(4095), &page[..], Status::SGL_LENGTH_INVALID, "too short"),
            (in_capsule(8192), &page, Status::SGL_LENGTH_INVALID, "too long"),
            (in_capsule(u32::MAX as usize), &page, Status::SGL_LENGTH_INVALID, "much too long"),
            (in_capsule(0), &[], Status::SGL_LENGTH_INVALID, "nothing"),
            (in_capsule(4096), &[], Status::SGL_LENGTH_INVALID, "missing in the capsule"),
            (in_capsule(4096), &page[..512], Status::SGL_LENGTH_INVALID, "partly in the capsule"),
            (offset, &page, Status::SGL_OFFSET_INVALID, "an offset"),
            (far, &page, Status::SGL_OFFSET_INVALID, "an offset far away"),
            (transport(4095), &[], Status::SGL_LENGTH_INVALID, "too short"),
            (transport(4097), &[], Status::SGL_LENGTH_INVALID, "too long"),
            (transport(u32::MAX as usize), &[], Status::SGL_LENGTH_INVALID, "4 GiB"),
            (transport(4096), &page, Status::INVALID_FIELD, "in the capsule and elsewhere"),
        ] {
            let cid = io.send_as_is(named(opcode, data), carried);
            assert_eq!(io.finish(cid, &[]).status, status, "{opcode:#x}: {why}");
        }
        for identifier in [0x00, 0x02, 0x0F, 0x10, 0x20, 0x2A, 0x30, 0x40, 0x4F, 0x50, 0x51, 0x5F, 0xFF] {
            unknown.identifier = identifier;
            let cid = io.send_as_is(named(opcode, unknown), &[]);
            assert_eq!(io.finish(cid, &[]).status, Status::SGL_TYPE_INVALID, "{opcode:#x}: type {identifier:#x}");
        }
    }
    assert_eq!(io.fetch(blocks(READ, 0, 2), 8191).status, Status::SGL_LENGTH_INVALID);
    let cid = io.send_as_is(named(READ, in_capsule(4096)), &[]);
    assert_eq!(io.finish(cid, &[]).status, Status::SGL_TYPE_INVALID);
    // Data that a command has no use for is taken from the stream and dropped.
    let cid = io.send_as_is(named(READ, transport(4096)), &page);
    assert_eq!(io.finish(cid, &[]).data, [0x5A; 4096]);
    let cid = io.send_as_is(named(FLUSH, in_capsule(4096)), &page);
    assert_eq!(io.finish(cid, &[]).status, Status::SUCCESS);
    assert_eq!(io.fetch(blocks(READ, 0, 2), 8192).data, [0x5A; 8192]);
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn blocks_that_there_are_not() {
    let target = target();
    let (admin_queue, mut io) = target.both("a", Digests::NONE);
    assert_eq!(io.run(blocks(WRITE, BLOCKS - 2, 2), &[0x5A; 8192]).status, Status::SUCCESS);
    for (start, count) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2), (1 << 52, 1), (1 << 63, 8)] {
        for opcode in [READ, WRITE, COMPARE, WRITE_ZEROES, VERIFY] {
            let mut command = blocks(opcode, start, count);
            command.data = transport(count as usize * 4096);
            let cid = io.send_as_is(command, &[]);
            assert_eq!(io.finish(cid, &[]).status, Status::LBA_OUT_OF_RANGE, "{opcode:#x} at {start:#x}");
        }
    }
    for opcode in [READ, WRITE, COMPARE] {
        for count in [MOST + 1, 65536 >> 5] {
            let mut command = blocks(opcode, 0, count);
            command.data = transport(count as usize * 4096);
            let cid = io.send_as_is(command, &[]);
            assert_eq!(io.finish(cid, &[]).status, Status::INVALID_FIELD, "{opcode:#x}: beyond MDTS");
        }
    }
    for count in [65536u32, 4097] {
        assert_eq!(io.run(blocks(WRITE_ZEROES, 0, count), &[]).status, Status::LBA_OUT_OF_RANGE);
    }
    // Protection information, which there is not.
    for bit in 26..30 {
        let mut command = blocks(READ, 0, 1);
        command.cdw12 = (1u32 << bit).into();
        assert_eq!(io.fetch(command, 4096).status, Status::INVALID_FIELD, "bit {bit}");
    }
    // Ranges: none of them is discarded if one is wrong.
    let range = |start: u64, count: u32| [&[0; 4][..], &count.to_le_bytes(), &start.to_le_bytes()].concat();
    let mut dsm = admin(DATASET_MANAGEMENT, 1, 1, 4);
    let wrong = [range(BLOCKS - 2, 2), range(BLOCKS, 1)].concat();
    assert_eq!(io.run(dsm, &wrong).status, Status::LBA_OUT_OF_RANGE);
    assert_eq!(io.run(dsm, &[range(u64::MAX, u32::MAX), range(0, 0)].concat()).status, Status::LBA_OUT_OF_RANGE);
    assert_eq!(io.run(dsm, &range(0, 0)).status, Status::SGL_LENGTH_INVALID, "fewer ranges than it says");
    dsm.cdw10 = 255.into();
    assert_eq!(io.run_asked(dsm, &range(0, 0).repeat(256)).status, Status::SUCCESS, "256 empty ranges");
    assert_eq!(io.fetch(blocks(READ, BLOCKS - 2, 2), 8192).data, [0x5A; 8192]);
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn identifiers_that_are_in_use() {
    let target = target();
    let (mut admin_queue, mut io) = target.both("a", Digests::NONE);
    let mut asked = blocks(WRITE, 0, 1);
    (asked.cid, asked.data) = (7.into(), transport(4096));
    let bytes = io.capsule(&asked, &[]);
    io.send(&bytes);
    let Said::R2t { cid: 7, tag, .. } = io.listen() else { panic!("no R2T") };
    // The same identifier again, in two ways.
    io.send(&bytes);
    assert!(matches!(io.listen(), Said::Completion { cid: 7, status: Status::COMMAND_ID_CONFLICT, .. }));
    let flush = Command { cid: 7.into(), ..command(FLUSH, 1) };
    let bytes = io.capsule(&flush, &[]);
    io.send(&bytes);
    assert!(matches!(io.listen(), Said::Completion { cid: 7, status: Status::COMMAND_ID_CONFLICT, .. }));
    let bytes = io.data_pdu(7, tag, 0, &[0x66; 4096], true);
    io.send(&bytes);
    assert_eq!(io.finish(7, &[]).status, Status::SUCCESS);
    assert_eq!(io.fetch(blocks(READ, 0, 1), 4096).data, [0x66; 4096]);
    // An event request keeps its identifier.
    let mut request = command(admin_op::ASYNC_EVENT_REQUEST, 0);
    request.cid = 900.into();
    let bytes = admin_queue.capsule(&request, &[]).repeat(2);
    admin_queue.send(&bytes);
    assert!(matches!(admin_queue.listen(), Said::Completion { cid: 900, status: Status::COMMAND_ID_CONFLICT, .. }));
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn fused_commands_without_their_other_half() {
    let target = target();
    let (admin_queue, mut io) = target.both("a", Digests::NONE);
    assert_eq!(io.run(blocks(WRITE, 0, 2), &[0x5A; 8192]).status, Status::SUCCESS);
    let half = |opcode: u8, fuse: u8, cid: u16, count: u32| {
        let mut command = blocks(opcode, 0, count);
        (command.flags, command.cid, command.data) = (0x40 | fuse, cid.into(), in_capsule(count as usize * 4096));
        command
    };
    let mut expect = |commands: &[(Command, &[u8])], wanted: &[(u16, Status)], why: &str| {
        let bytes: Vec<u8> = commands.iter().flat_map(|(command, data)| io.capsule(command, data)).collect();
        io.send(&bytes);
        let mut got: Vec<_> = wanted
            .iter()
            .map(|_| match io.listen() {
                Said::Completion { cid, status, .. } => (cid, status),
                other => panic!("{why}: {other:?}"),
            })
            .collect();
        got.sort_by_key(|(cid, _)| *cid);
        assert_eq!(got, wanted, "{why}");
    };
    let (same, other) = ([0x5A; 4096], [0x5B; 4096]);
    let missing = Status::ABORTED_MISSING_FUSED;
    let failed = Status::ABORTED_FAILED_FUSED;
    let flush = Command { cid: 3.into(), ..command(FLUSH, 1) };
    expect(&[(half(WRITE, 2, 2, 1), &other)], &[(2, missing)], "a second half alone");
    expect(&[(half(COMPARE, 1, 1, 1), &same), (flush, &[])], &[(1, missing), (3, Status::SUCCESS)], "another command");
    expect(
        &[(half(COMPARE, 1, 1, 1), &same), (half(COMPARE, 1, 2, 1), &other), (half(WRITE, 2, 3, 1), &other)],
        &[(1, missing), (2, Status::COMPARE_FAILURE), (3, failed)],
        "two first halves",
    );
    expect(
        &[(half(COMPARE, 1, 1, 1), &same), (half(WRITE, 2, 2, 2), &[0x5B; 8192])],
        &[(1, failed), (2, Status::INVALID_FIELD)],
        "different ranges",
    );
    expect(
        &[(half(WRITE, 1, 1, 1), &other), (half(COMPARE, 2, 2, 1), &other)],
        &[(1, Status::INVALID_FIELD), (2, failed)],
        "the wrong way round",
    );
    let elsewhere = Command { nsid: 9.into(), ..half(COMPARE, 1, 1, 1) };
    expect(
        &[(elsewhere, &same), (half(WRITE, 2, 2, 1), &other)],
        &[(1, Status::INVALID_NAMESPACE), (2, failed)],
        "an unknown namespace",
    );
    let prp = Command { flags: 0x01, ..half(COMPARE, 1, 1, 1) };
    expect(
        &[(prp, &same), (half(WRITE, 2, 2, 1), &other)],
        &[(1, Status::INVALID_FIELD), (2, failed)],
        "a first half without SGL",
    );
    expect(
        &[(half(COMPARE, 1, 1, 1), &other), (half(WRITE, 2, 2, 1), &other)],
        &[(1, Status::COMPARE_FAILURE), (2, failed)],
        "something else is stored",
    );
    assert_eq!(io.fetch(blocks(READ, 0, 2), 8192).data, [0x5A; 8192]);
    // A first half that waits when its connection ends.
    let bytes = io.capsule(&half(COMPARE, 1, 1, 1), &same);
    io.send(&bytes);
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}

#[test]
fn event_requests_without_end() {
    let target = target();
    let (mut admin_queue, _) = target.admin("a", Digests::NONE);
    let mut refused = 0;
    for _ in 0..500 {
        admin_queue.send_as_is(command(admin_op::ASYNC_EVENT_REQUEST, 0), &[]);
    }
    // What comes behind them is answered as well.
    let last = admin_queue.send_as_is(admin(admin_op::KEEP_ALIVE, 0, 0, 0), &[]);
    loop {
        match admin_queue.listen() {
            Said::Completion { status: Status::EVENT_LIMIT_EXCEEDED, .. } => refused += 1,
            Said::Completion { cid, status: Status::SUCCESS, .. } if cid == last => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 496);
    drop(admin_queue);
    target.expect_idle();
    target.stop();
}

#[test]
fn admin_commands_that_ask_for_what_there_is_not() {
    let target = target();
    let (mut queue, _) = target.admin("a", Digests::NONE);
    for cns in [0x09, 0x0F, 0x1F, 0x20, 0xFF] {
        assert_eq!(
            queue.fetch(admin(admin_op::IDENTIFY, 1, cns, 0), 4096).status,
            Status::INVALID_FIELD,
            "CNS {cns:#x}"
        );
    }
    assert_eq!(queue.fetch(admin(admin_op::IDENTIFY, 0, 1, 0), 4095).status, Status::SGL_LENGTH_INVALID);
    assert_eq!(queue.run(admin(admin_op::IDENTIFY, 0, 1, 0), &[]).status, Status::SGL_LENGTH_INVALID);
    for page in [0x0E, 0x70, 0xC0, 0xFF] {
        let status = queue.fetch(admin(admin_op::GET_LOG_PAGE, 0, 0x007F_0000 | page, 0), 512).status;
        assert!(matches!(status, Status::INVALID_LOG_PAGE | Status::INVALID_FIELD), "page {page:#x}: {status}");
    }
    let endless = queue.fetch(admin(admin_op::GET_LOG_PAGE, 0, 0xFFFF_0002, 0xFFFF), 512).status;
    assert!(!endless.is_success(), "a page of 16 GiB");
    for feature in [0x00, 0x03, 0x12, 0x7F, 0xFF] {
        assert_eq!(queue.run(admin(admin_op::GET_FEATURES, 0, feature, 0), &[]).status, Status::INVALID_FIELD);
        assert_eq!(queue.run(admin(admin_op::SET_FEATURES, 0, feature, 0), &[]).status, Status::INVALID_FIELD);
    }
    // Data that a command has no use for may be asked for or refused, but not more than there is room for.
    let mut huge = admin(admin_op::SET_FEATURES, 0, 7, 0x0001_0001);
    huge.data = transport(1 << 30);
    let cid = queue.send_as_is(huge, &[]);
    assert_eq!(queue.finish(cid, &[]).status, Status::SGL_LENGTH_INVALID);
    for (offset, value) in [(0u32, 0u32), (0x1C, 1), (0x14, 3 << 14), (0x1000, 0), (u32::MAX, 1)] {
        assert_eq!(queue.set_property(offset, value).status, Status::INVALID_FIELD, "property {offset:#x}");
    }
    assert_eq!(queue.run(admin(admin_op::KEEP_ALIVE, 0, 0, 0), &[]).status, Status::SUCCESS);
    drop(queue);
    target.expect_idle();
    target.stop();
}

#[test]
fn reservation_commands_that_make_no_sense() {
    let target = target();
    let (admin_queue, mut io) = target.both("a", Digests::NONE);
    assert_eq!(io.run(admin(RESERVATION_REGISTER, 1, 0, 0), &[0; 15]).status, Status::SGL_LENGTH_INVALID);
    assert_eq!(io.run(admin(RESERVATION_REGISTER, 1, 7, 0), &[0; 16]).status, Status::INVALID_FIELD);
    assert_eq!(io.run(admin(RESERVATION_ACQUIRE, 1, 0x100, 0), &[1; 16]).status, Status::RESERVATION_CONFLICT);
    assert_eq!(io.run(admin(RESERVATION_ACQUIRE, 1, 0xFF00, 0), &[1; 16]).status, Status::INVALID_FIELD);
    let report = admin(RESERVATION_REPORT, 1, 15, 1);
    assert_eq!(io.fetch(admin(RESERVATION_REPORT, 1, 15, 0), 64).status, Status::HOST_ID_INCONSISTENT);
    assert_eq!(io.fetch(report, 64).data.len(), 64);
    assert_eq!(io.fetch(report, 63).status, Status::SGL_LENGTH_INVALID);
    assert_eq!(io.fetch(report, 0).status, Status::SGL_LENGTH_INVALID);
    assert_eq!(io.fetch(admin(RESERVATION_REPORT, 1, u32::MAX, 1), 64).status, Status::INVALID_FIELD);
    drop((admin_queue, io));
    target.expect_idle();
    target.stop();
}
