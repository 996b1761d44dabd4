//! Initialising a connection (TCP section 3.2.1): ICReq, ICResp, and what both sides agree on.

use std::rc::Rc;

use zerocopy::{FromBytes, IntoBytes};

use crate::reactor::SendBatch;

use super::digest::Digests;
use super::end::{EndReason, Violation};
use super::frame::termination;
use super::receiver::Receiver;
use super::wire::pdu::{CommonHeader, IcReq, IcResp, kind};
use super::{LARGEST_H2C_DATA, Link, io::MOST_AHEAD};

/// The largest alignment that a host can ask for (TCP section 3.6.2.2, HPDA): in dwords less one.
const LARGEST_ALIGNMENT: u8 = 31;

/// What was agreed.
pub(super) struct Agreed {
    pub(super) digests: Digests,
    /// R2Ts that one command may have outstanding.
    pub(super) most_r2t: usize,
}

/// Answers the host's ICReq; a wrong one is answered with a termination request.
pub(super) async fn initialize(link: &Rc<Link>, receiver: &mut Receiver) -> Result<Agreed, EndReason> {
    match read_request(receiver).await {
        Ok(agreed) => {
            send(link, response(&agreed).as_bytes()).await?;
            Ok(agreed)
        }
        Err(EndReason::Violation(violation)) => {
            send(link, termination(violation).as_bytes()).await?;
            Err(violation.into())
        }
        Err(other) => Err(other),
    }
}

async fn send(link: &Link, bytes: &[u8]) -> Result<(), EndReason> {
    let mut batch = SendBatch::with_room(1, bytes.len());
    batch.header(bytes);
    link.socket.send(&mut batch).await.map_err(EndReason::Send)
}

async fn read_request(receiver: &mut Receiver) -> Result<Agreed, EndReason> {
    // Refused by its first bytes if it is something else: a stranger may never send the rest.
    let head: [u8; size_of::<CommonHeader>()] = receiver.begin().await?;
    let common = CommonHeader::read_from_bytes(&head).expect("as many bytes as the header has");
    if common.kind != kind::IC_REQ {
        return Err(Violation::sequence("the first PDU is no ICReq").into());
    }
    if usize::from(common.header_len) != size_of::<IcReq>() {
        return Err(Violation::field(2, "the header length of an ICReq is 128").into());
    }
    if common.len.get() as usize != size_of::<IcReq>() {
        return Err(Violation::field(4, "the length of an ICReq is 128").into());
    }
    let rest: [u8; size_of::<IcReq>() - size_of::<CommonHeader>()] = receiver.more().await?;
    let mut bytes = [0; size_of::<IcReq>()];
    bytes[..head.len()].copy_from_slice(&head);
    bytes[head.len()..].copy_from_slice(&rest);
    let request = IcReq::read_from_bytes(&bytes).expect("as many bytes as the request has");
    if request.version.get() != 0 {
        return Err(Violation::parameter(8, "a PDU format version other than 0").into());
    }
    if request.host_data_alignment != 0 {
        // Data is sent right behind its header; a host that needs it aligned cannot be served.
        let known = request.host_data_alignment <= LARGEST_ALIGNMENT;
        let what = "the host asks for aligned data";
        return Err(if known { Violation::parameter(10, what) } else { Violation::field(10, what) }.into());
    }
    let most_r2t = (request.most_r2t.get() as usize).saturating_add(1).min(MOST_AHEAD);
    Ok(Agreed { digests: Digests::from_wire(request.digests), most_r2t })
}

fn response(agreed: &Agreed) -> IcResp {
    let len = size_of::<IcResp>();
    IcResp {
        common: CommonHeader {
            kind: kind::IC_RESP,
            flags: 0,
            header_len: len as u8,
            data_offset: 0,
            len: (len as u32).into(),
        },
        version: 0.into(),
        controller_data_alignment: 0,
        digests: agreed.digests.to_wire(),
        most_h2c_data: (LARGEST_H2C_DATA as u32).into(),
        reserved: [0; 112],
    }
}
