//! Commands that wait for the limits of their disk.
//!
//! They wait before they are at work and before they take a buffer, so neither a detachment nor a preemption waits for them, and no other host lacks
//! memory. A namespace that is withdrawn lets them go on, to be refused. When their connection ends nobody waits for their answer: they are
//! aborted as on a deleted queue, and not carried out unpaid; but what has arrived when the server stops is carried out at once.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::disk::Cost;

use super::attached::Attached;
use super::receiver::Body;
use super::slot::Served;
use super::wire::status::Status;

impl Served<'_> {
    /// Waits until the disk's limits let a command go; whether its host still may is to be asked afterwards.
    #[inline]
    pub(super) async fn within_limits(&self, attached: &Attached, cost: Cost) -> Result<(), Status> {
        if attached.tap.passes(cost) { Ok(()) } else { self.wait_for_limits(attached, cost).await }
    }

    /// The same for a command that came with data, which is moved out of the shared buffer if it has to wait.
    #[inline]
    pub(super) async fn within_limits_with(
        &self,
        attached: &Attached,
        cost: Cost,
        data: &mut Body,
    ) -> Result<(), Status> {
        if attached.tap.passes(cost) {
            return Ok(());
        }
        *data = std::mem::replace(data, Body::Empty).apart(&self.connection.link.reactor).await;
        self.wait_for_limits(attached, cost).await
    }

    async fn wait_for_limits(&self, attached: &Attached, cost: Cost) -> Result<(), Status> {
        let connection = self.connection;
        let mut passed = pin!(attached.tap.wait(cost));
        let mut ended = pin!(self.slot.arrived.until(|| connection.transfers.is_abandoned().then_some(())));
        std::future::poll_fn(|cx| {
            // The first of the line looks soon, and whoever leaves it wakes the next.
            if connection.link.is_stopping() && !connection.link.is_cut() {
                return Poll::Ready(Ok(()));
            }
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Status::ABORTED_SQ_DELETION));
            }
            passed.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}
