//! Connect: what a host asks for, and the answer (Base section 6.3).
//!
//! A refusal names the field that is wrong by its offset, in the command or in the data, and says "do not retry" where the same Connect can
//! only fail again: a host then gives up instead of trying for ten minutes.

use std::mem::offset_of;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::auth::HostPolicy;
use super::super::controller::{Controller, QueueHandle};
use super::super::wire::fabrics::{Connect, ConnectData, connect};
use super::super::wire::status::Status;
use super::host::{Host, HostId};
use super::limits::Limits;
use super::name::Nqn;

/// A refused Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRefusal {
    /// The status.
    pub status: Status,
    /// Dword 0 of the completion: where the wrong field is.
    pub result: u64,
}

impl ConnectRefusal {
    /// The field of the command at this offset is wrong.
    pub(in super::super) fn in_command(offset: usize) -> Self {
        Self { status: Status::CONNECT_INVALID_PARAMETERS.final_one(), result: offset as u64 }
    }

    /// The field of the data at this offset is wrong (IATTR is 1).
    pub(in super::super) fn in_data(offset: usize) -> Self {
        Self { status: Status::CONNECT_INVALID_PARAMETERS.final_one(), result: 1 << 16 | offset as u64 }
    }
}

impl From<Status> for ConnectRefusal {
    fn from(status: Status) -> Self {
        Self { status, result: 0 }
    }
}

/// A queue that was connected.
pub struct Connected {
    /// The controller that it belongs to.
    pub controller: Arc<Controller>,
    /// The queue; 0 is the Admin queue.
    pub queue_id: u16,
    /// Entries of the queue.
    pub entries: u16,
    /// Whether completions have to say where the controller has got to in the queue.
    pub sq_flow_control: bool,
    /// The host as the account knows it; none at the discovery subsystem, which everybody may ask.
    pub host: Option<Arc<Host>>,
}

impl Connected {
    /// How the host has to authenticate on this queue before anything else.
    pub fn authentication(&self) -> Option<&Arc<HostPolicy>> {
        self.host.as_ref()?.authentication.as_ref()
    }

    /// Dword 0 of the completion (Base section 6.3, Figure "Connect Response").
    pub fn result(&self) -> u64 {
        /// Authentication is required: by an Authentication Transaction (AUTHREQ.ATR).
        const AUTHENTICATION_TRANSACTION: u64 = 1 << 17;
        u64::from(self.controller.id()) | if self.authentication().is_some() { AUTHENTICATION_TRANSACTION } else { 0 }
    }
}

/// A Connect whose every field can be used.
pub(in super::super) struct Wanted {
    pub queue_id: u16,
    pub entries: u16,
    pub sq_flow_control: bool,
    pub keep_alive_ms: u32,
    pub controller_id: u16,
    pub host_id: HostId,
    pub host: Nqn,
    pub subsystem: Nqn,
    /// The address at which the host reached us.
    pub at: SocketAddr,
    pub queue: QueueHandle,
    pub now: Instant,
}

impl Wanted {
    /// Checks what can be checked without knowing the subsystem.
    pub(in super::super) fn read(
        command: &Connect,
        data: &ConnectData,
        limits: &Limits,
        (at, queue, now): (SocketAddr, QueueHandle, Instant),
    ) -> Result<Self, ConnectRefusal> {
        if command.record_format.get() != 0 {
            return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.final_one().into());
        }
        let queue_id = command.queue_id.get();
        let size = command.queue_size.get();
        if size == 0 || size >= limits.queue_entries {
            return Err(ConnectRefusal::in_command(offset_of!(Connect, queue_size)));
        }
        let host_id = HostId(data.host_id);
        if !host_id.is_some() {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, host_id)));
        }
        let controller_id = data.controller_id.get();
        if queue_id == 0 && controller_id != connect::NEW_CONTROLLER {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, controller_id)));
        }
        let subsystem = Nqn::from_field(&data.subsystem_nqn)
            .ok_or(ConnectRefusal::in_data(offset_of!(ConnectData, subsystem_nqn)))?;
        let host = Nqn::from_field(&data.host_nqn).ok_or(ConnectRefusal::in_data(offset_of!(ConnectData, host_nqn)))?;
        Ok(Self {
            queue_id,
            entries: size + 1,
            sq_flow_control: command.attributes & connect::NO_SQ_FLOW_CONTROL == 0,
            keep_alive_ms: command.keep_alive_ms.get(),
            controller_id,
            host_id,
            host,
            subsystem,
            at,
            queue,
            now,
        })
    }

    pub(in super::super) fn connected(&self, controller: Arc<Controller>, host: Option<Arc<Host>>) -> Connected {
        Connected {
            controller,
            queue_id: self.queue_id,
            entries: self.entries,
            sq_flow_control: self.sq_flow_control,
            host,
        }
    }
}
