//! Authentication Send and Receive (Base sections 6.1 and 6.2): brings the messages of [`super::auth`] to and from the host.
//!
//! A queue whose host has to authenticate takes nothing else before that, and has as long for it as for connecting. The modular exponentiation
//! takes milliseconds and is done on a helper thread.

use tracing::{info, warn};
use zerocopy::IntoBytes;

use crate::export::stream::Phase;
use crate::reactor::offload;

use super::auth::{
    Authenticator, MOST_MESSAGE_BYTES, Outcome, SECURITY_PROTOCOL, SECURITY_SPECIFIC_0, SECURITY_SPECIFIC_1, Sent,
    Terms,
};
use super::connection::{Arrived, Queue};
use super::end::EndReason;
use super::slot::{Answer, Served};
use super::wire::command::Command;
use super::wire::status::Status;

impl Served<'_> {
    pub(super) async fn authentication_send(&self, queue: &Queue, arrived: Arrived) -> Answer {
        let (authenticator, len) = match self.check_message(queue, &arrived.command) {
            Ok(checked) => checked,
            Err(status) => return status.into(),
        };
        let message = match self.payload(arrived, len).await {
            Ok(message) => message,
            Err(answer) => return answer,
        };
        let sent = authenticator.borrow_mut().send(message.bytes());
        match sent {
            Sent::Answer => {}
            Sent::Compute(work) => {
                let power = offload(move || work.run()).await;
                authenticator.borrow_mut().resume(power);
            }
            Sent::Authenticated(terms) => self.authenticated(queue, &terms),
            Sent::Rejected(reason) => {
                warn!(peer = self.connection.link.peer, "the host rejects the authentication: reason {reason:#04x}");
                self.unauthenticated();
            }
        }
        Answer::SUCCESS
    }

    pub(super) async fn authentication_receive(&self, queue: &Queue, command: &Command) -> Answer {
        let (authenticator, len) = match self.check_message(queue, command) {
            Ok(checked) => checked,
            Err(status) => return status.into(),
        };
        if let Err(status) = self.check_destination(command, len) {
            return status.into();
        }
        let received = authenticator.borrow_mut().receive(len);
        let Ok(received) = received else { return Status::INVALID_FIELD.final_one().into() };
        match received.outcome {
            Outcome::Continues => {}
            Outcome::Authenticated(terms) => self.authenticated(queue, &terms),
            Outcome::Failed(reason) => {
                warn!(peer = self.connection.link.peer, "authentication failed: {reason}");
                self.unauthenticated();
            }
        }
        let bytes = received.data.as_bytes();
        let mut buffer = self.connection.link.reactor.buffers().take(bytes.len()).await;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Answer::Data { buffer, len: bytes.len() }
    }

    /// The queue's authenticator and the length of the message, which dword 11 gives.
    fn check_message<'q>(
        &self,
        queue: &'q Queue,
        command: &Command,
    ) -> Result<(&'q std::cell::RefCell<Authenticator>, usize), Status> {
        let authenticator = queue.authenticator.as_ref().ok_or(Status::INVALID_OPCODE.final_one())?;
        let [_, specific_0, specific_1, protocol] = command.cdw10.get().to_le_bytes();
        let len = command.cdw11.get() as usize;
        let known = (protocol, specific_0, specific_1) == (SECURITY_PROTOCOL, SECURITY_SPECIFIC_0, SECURITY_SPECIFIC_1);
        if !known || !(1..=MOST_MESSAGE_BYTES).contains(&len) {
            return Err(Status::INVALID_FIELD.final_one());
        }
        Ok((authenticator, len))
    }

    fn authenticated(&self, queue: &Queue, terms: &Terms) {
        let peer = &self.connection.link.peer;
        info!(peer, "authenticated: {terms}");
        if queue.id == 0 && queue.controller.authenticated().is_err() {
            return self.connection.link.cut(EndReason::MixedUp);
        }
        self.connection.authenticated();
    }

    /// The host has to go. It may have something to say before (Linux answers a failure with AUTH_Failure2, and waits for the completion of that), so it
    /// is left to it, or to the watchdog, to end the connection.
    fn unauthenticated(&self) {
        self.connection.link.phase.set(Phase::Handshake);
    }
}
