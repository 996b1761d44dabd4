//! The end of a conversion under way: hosts wait for a moment, and go on with the destination.
//!
//! A namespace keeps its identifier, its identity and its hosts; another disk is behind it. In the configuration the destination takes over what hosts
//! know the source by, and the source what the destination was known by, which nobody has seen.
//!
//! The order: hosts wait, the last round is copied and durable, the source says that it is old, the destination that it is whole, the namespace gets the
//! destination, hosts go on. A crash before the source says so leaves hosts with the source, after it with neither until the configuration names
//! the destination: never with an old copy.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::control::config::Config;
use crate::control::conversion::{self, Note};
use crate::control::rpc::{Kind, Refusal};
use crate::export::nvme_tcp::{NvmeTcpServer, Placement};

use super::super::{disks, namespace};
use super::job::{Converting, Phase};
use super::{Conversion, Target};

/// How long commands that have begun may take to end. Hosts give up theirs after half a minute.
const HOLD_LIMIT: Duration = Duration::from_secs(5);
/// How long the last round may take while hosts wait.
const COPY_LIMIT: Duration = Duration::from_secs(10);
/// How often the last round is tried before hosts are let be.
const TRIES: usize = 3;

impl Target {
    /// Refuses a switch that would leave somebody behind.
    pub(super) fn refuse_switch(&self, source: &str) -> Result<(), Refusal> {
        if let Some(export) = self.state().config.exports_of(source).next() {
            let what = format!(
                "disk {source} is the NBD export {export:?}, whose clients cannot be switched: convert it without --switch while no client is \
                 connected, and name the new disk in the configuration file"
            );
            return Err(Refusal::new(Kind::InUse, what));
        }
        if let Some(export) = self.state().config.sockets_of(source).next() {
            let what = format!(
                "disk {source} is the vhost-user export {:?}, whose virtual machine cannot be switched: convert it without --switch while none is \
                 connected, and name the new disk in the configuration file",
                export.name
            );
            return Err(Refusal::new(Kind::InUse, what));
        }
        let registrants = self.server_of(source).map_or(0, |server| server.registrants(source));
        if registrants > 0 {
            let what = format!(
                "hosts have registered with a reservation of disk {source} ({registrants} of them), which does not go along: let them unregister first"
            );
            return Err(Refusal::new(Kind::InUse, what));
        }
        Ok(())
    }
}

impl Converting<'_> {
    /// Switches the source's hosts to the destination; gives what a person has to know.
    pub(super) fn switch(&mut self) -> Result<String, Refusal> {
        let mut tries = 0;
        loop {
            self.job.enter(Phase::Switching);
            match self.try_to_switch() {
                // Hosts went on meanwhile.
                Err(refusal) if refusal.kind() == Kind::TimedOut && tries < TRIES => {
                    tries += 1;
                    warn!("conversion to disk {}: {refusal}", self.job.wanted.destination);
                    self.come_close(self.job.wanted.verify)?;
                }
                other => return other,
            }
        }
    }

    pub(super) fn switch_now(&mut self) -> Result<String, Refusal> {
        let Conversion { source, destination, .. } = self.job.wanted.clone();
        let target = self.target;
        let server = target.server_of(&source);
        let edit = |config: &mut Config| exchange_identities(config, server, &source, &destination);
        let closed = target.change(edit, |config| {
            target.refuse_switch(&source)?;
            let _held = target.hold_clients(&source)?;
            let is_used = config.is_used(&destination)?;
            match server {
                Some(server) => self.switch_namespace(server, &source, &destination)?,
                None => self.last_round()?,
            }
            self.job.set_switched();
            // No virtual machine is there, and the next one finds the destination.
            target.remove_sockets(&source);
            let why = conversion::why_not(&self.source).unwrap_or_default();
            let closed = target.state().disks.set_offline(&source, why);
            self.put_in_place(is_used, config, server, &destination);
            Ok(closed)
        })?;
        closed.map(disks::close);
        self.delete_snapshot(self.filling.base);
        Ok(format!(
            "the hosts of disk {source} have disk {destination} now; put that into the configuration file, with attached_to, nsid and uuid as `strongroom \
             disk show {destination}` tells them: after a restart disk {source} is not served, since it is old"
        ))
    }

    /// The last round, while nobody writes to the source; from then on the destination counts.
    fn last_round(&mut self) -> Result<(), Refusal> {
        self.round(Some(Instant::now() + COPY_LIMIT), self.job.wanted.verify)?;
        self.mark_source(Some(&Note::Switched { to: self.job.wanted.destination.clone() }))?;
        // Hosts stay with a source that says nothing.
        self.release_destination().inspect_err(|_| self.take_back_mark())
    }

    fn switch_namespace(&mut self, server: &NvmeTcpServer, source: &str, destination: &str) -> Result<(), Refusal> {
        let placement = {
            let state = self.target.state();
            let (old, new) = (state.config.disk(source)?, state.config.disk(destination)?);
            Placement {
                disk: self.disk.clone(),
                account: new.account.clone().unwrap_or_default(),
                nsid: None,
                uuid: new.uuid_in(&state.config.region).into_bytes(),
                shared: old.shared,
            }
        };
        server.add_disk(&placement)?;
        let switched = self.switch_held(server, source, destination);
        // Nobody sees it: the source now, or the destination as before.
        let unseen = if switched.is_ok() { source } else { destination };
        if let Err(e) = server.remove_disk(unseen) {
            warn!("disk {unseen} cannot be closed: {e}");
        }
        switched
    }

    fn switch_held(&mut self, server: &NvmeTcpServer, source: &str, destination: &str) -> Result<(), Refusal> {
        let held = server.hold(source, HOLD_LIMIT)?;
        self.target.refuse_switch(source)?;
        self.last_round()?;
        if let Err(e) = server.swap(&held, destination) {
            self.take_back_mark();
            self.save()?;
            return Err(e.into());
        }
        drop(held);
        if self.disk.size() > self.source.info().size_bytes
            && let Err(e) = server.resized(destination)
        {
            warn!("disk {destination}: its hosts were not told that it is larger: {e}");
        }
        Ok(())
    }

    fn take_back_mark(&self) {
        if let Err(e) = self.mark_source(None) {
            warn!(
                "disk {}: it still says that its hosts were switched, which they were not: {e}",
                self.job.wanted.source
            );
        }
    }

    /// The destination is what the configuration says: behind the namespace already, or to be opened, or closed because nobody has it. Whatever goes
    /// wrong here does not undo the switch.
    fn put_in_place(&self, is_used: bool, config: &Config, server: Option<&NvmeTcpServer>, destination: &str) {
        let target = self.target;
        let wrong = match server {
            Some(_) if is_used => {
                target.state().disks.insert(self.disk.clone());
                target.place_sockets(config, &self.disk).err().map(|e| e.to_string())
            }
            Some(server) => {
                target.state().disks.set_detached(destination);
                server.remove_disk(destination).err().map(|e| e.to_string())
            }
            None if is_used => {
                let failed = target.open(config, destination, self.job.actor).err();
                failed.map(|e| {
                    target.state().disks.set_offline(destination, e.to_string());
                    e.to_string()
                })
            }
            None => {
                target.state().disks.set_detached(destination);
                None
            }
        };
        if let Some(wrong) = wrong {
            warn!("disk {destination}: {wrong}");
        }
    }
}

/// What hosts know the source by is the destination's; and the other way round, so that each has something.
fn exchange_identities(
    config: &mut Config,
    server: Option<&NvmeTcpServer>,
    source: &str,
    destination: &str,
) -> Result<(), Refusal> {
    let region = config.region.clone();
    let (old, new) = (config.disk(source)?.clone(), config.disk(destination)?.clone());
    if old.account != new.account {
        let what =
            format!("disk {destination} belongs to another account than disk {source}, whose hosts it shall have");
        return Err(Refusal::new(Kind::Refused, what));
    }
    let nsid = server.and_then(|server| namespace::nsid_of(server, &old)).or(old.nsid);
    let to = config.disk_mut(destination)?;
    (to.attached_to, to.shared, to.nsid, to.uuid) =
        (old.attached_to.clone(), old.shared, nsid, Some(old.uuid_in(&region)));
    let from = config.disk_mut(source)?;
    (from.attached_to, from.nsid, from.uuid) = (Vec::new(), new.nsid, Some(new.uuid_in(&region)));
    Ok(())
}
