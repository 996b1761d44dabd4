//! The cloud: the store, the target below it, and the one way in which operations change both.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::backend::{Backend, BackendError, Caller};
use super::config::{CloudConfig, ZoneConfig};
use super::error::ApiError;
use super::intent::{Findings, Intent, Open};
use super::params::Params;
use super::rows::Token;
use super::schedule::Pace;
use super::store::{Store, StoreError, World};
use crate::time::Time;

/// How long an answer is kept for a request that comes again with its token.
const TOKEN_SECONDS: u64 = 24 * 3600;
/// The longest client token.
const LONGEST_TOKEN: usize = 64;
/// Parameters of a request that are not the same when it is sent again.
const VOLATILE: [&str; 11] = [
    "ClientToken",
    "Signature",
    "SignatureNonce",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureType",
    "Timestamp",
    "AccessKeyId",
    "Format",
    "SecurityToken",
    "Action",
];

/// A request: who, what, when.
pub struct Call<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// The operation.
    pub action: &'a str,
    /// Its parameters.
    pub params: &'a Params,
    /// Seconds since 1970.
    pub now: u64,
}

impl Call<'_> {
    /// The account that asks.
    pub fn account(&self) -> &str {
        &self.caller.account
    }
}

/// What an operation has decided to do, and will answer.
pub struct Plan {
    /// What is to be done.
    pub intent: Intent,
    /// The answer, once it is done.
    pub answer: Value,
}

/// An operation: checks, does and answers, or says why not.
pub type Operation = fn(&Cloud, &Call<'_>) -> Result<Value, ApiError>;

/// Tells the time, in seconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The cloud.
pub struct Cloud {
    region: String,
    config: CloudConfig,
    store: Arc<Store>,
    backend: Arc<dyn Backend>,
    clock: Clock,
    /// The numbers of intents that a thread is carrying out: no other may.
    in_hand: Mutex<BTreeSet<String>>,
    pace: Pace,
}

impl Cloud {
    /// A cloud over a target, by the system's clock.
    pub fn new(region: &str, config: CloudConfig, store: Arc<Store>, backend: Arc<dyn Backend>) -> Self {
        Self::with_clock(region, config, store, backend, Box::new(|| Time::now().seconds()))
    }

    /// A cloud by another clock.
    pub fn with_clock(
        region: &str,
        config: CloudConfig,
        store: Arc<Store>,
        backend: Arc<dyn Backend>,
        clock: Clock,
    ) -> Self {
        let (in_hand, pace) = Default::default();
        Self { region: region.to_owned(), config, store, backend, clock, in_hand, pace }
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The configuration.
    pub fn config(&self) -> &CloudConfig {
        &self.config
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The target.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// How often failed work is tried again.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The zone of this name.
    pub fn zone(&self, name: &str) -> Option<&ZoneConfig> {
        self.config.zones.iter().find(|zone| zone.name == name)
    }

    /// The pool of a zone that is in a row: it was configured once.
    pub fn pool_of(&self, zone: &str) -> Result<&str, BackendError> {
        let zone_config = self.zone(zone);
        zone_config.map(|zone| zone.pool.as_str()).ok_or_else(|| {
            BackendError::Unavailable(format!("zone {zone} is not in the configuration any more; put it back"))
        })
    }

    /// Changes rows only. With a client token, the same request again gets the same answer.
    pub fn change(
        &self,
        call: &Call<'_>,
        change: impl FnOnce(&mut World) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let token = TokenOf::read(call)?;
        self.store.change(|world| {
            if let Some(answer) = token.as_ref().map(|token| token.answered(world)).transpose()?.flatten() {
                return Ok(answer);
            }
            let answer = change(world)?;
            if let Some(token) = token {
                token.keep(world, &answer, None, call.now);
            }
            Ok(answer)
        })
    }

    /// Plans, acts and finishes. With a client token, the same request again gets the same answer.
    pub fn perform(
        &self,
        call: &Call<'_>,
        plan: impl FnOnce(&mut World) -> Result<Plan, ApiError>,
    ) -> Result<Value, ApiError> {
        let token = TokenOf::read(call)?;
        let begun = self.store.change(|world| -> Result<_, ApiError> {
            if let Some(answer) = token.as_ref().map(|token| token.answered(world)).transpose()?.flatten() {
                return Ok((answer, None));
            }
            let Plan { intent, answer } = plan(world)?;
            let held = self.take_next(world);
            let id = held.number.clone();
            let key = token.as_ref().map(|token| token.key.clone());
            if let Some(token) = token {
                token.keep(world, &answer, Some(id.clone()), call.now);
            }
            world.intents.put(&id, Open { intent, by: call.caller.clone(), token: key, is_undone: false });
            Ok((answer, Some(held)))
        })?;
        match begun {
            (answer, None) => Ok(answer),
            (answer, Some(held)) => self.carry_out(&held).map(|()| answer),
        }
    }

    /// Has somebody else act while an intent holds what it touches. Then the intent is carried out or taken back, whichever the target says.
    pub(super) fn perform_around<T>(
        &self,
        by: &Caller,
        plan: impl FnOnce(&mut World) -> Result<Intent, ApiError>,
        act: impl FnOnce() -> T,
    ) -> Result<T, ApiError> {
        let held = self.store.change(|world| -> Result<_, ApiError> {
            let intent = plan(world)?;
            let held = self.take_next(world);
            world.intents.put(&held.number, Open { intent, by: by.clone(), token: None, is_undone: false });
            Ok(held)
        })?;
        let done = act();
        // That it was taken back is told by what `act` gives.
        if let Err(e) = self.carry_out(&held)
            && self.store.read(|world| world.intents.contains(&held.number))
        {
            warn!("cloud: an operation is not finished: {e}");
        }
        Ok(done)
    }

    /// Carries an intent out, or takes it back.
    fn carry_out(&self, held: &Held<'_>) -> Result<(), ApiError> {
        let id = held.number.as_str();
        let open = self.store.read(|world| world.intents.get(id).cloned());
        let Some(open) = open else { return Ok(()) };
        if open.is_undone {
            return self.take_back(id, &open);
        }
        match open.intent.work().act(self, &open.by) {
            Ok(findings) => self.finish(id, &open, &findings),
            Err(error) => {
                self.store.change(|world| -> Result<(), StoreError> {
                    if let Some(open) = world.intents.get_mut(id) {
                        open.is_undone = true;
                    }
                    Ok(())
                })?;
                if let Err(e) = self.take_back(id, &open) {
                    warn!("cloud: {:?} failed and cannot be undone now; it is tried again: {e}", open.intent);
                }
                Err(error.into())
            }
        }
    }

    fn finish(&self, id: &str, open: &Open, findings: &Findings) -> Result<(), ApiError> {
        self.store.change(|world| {
            open.intent.work().finish(world, self.now(), findings);
            world.intents.remove(id);
            if let Some(token) = open.token.as_ref().and_then(|key| world.tokens.get_mut(key)) {
                token.intent = None;
            }
            Ok(())
        })
    }

    fn take_back(&self, id: &str, open: &Open) -> Result<(), ApiError> {
        open.intent.work().undo(self, &open.by)?;
        self.store.change(|world| {
            open.intent.work().forget(world);
            world.intents.remove(id);
            if let Some(key) = &open.token {
                world.tokens.remove(key);
            }
            Ok(())
        })
    }

    /// Goes on with what an earlier life, or a failure, has left unfinished, but for what another thread has in hand. What still cannot be done
    /// stays, and is told. Answers whether nothing was left.
    pub fn recover(&self) -> bool {
        let left: Vec<Held<'_>> =
            self.store.read(|world| world.intents.iter().filter_map(|(id, _)| self.take(id)).collect());
        let mut all_done = true;
        for held in left {
            match self.carry_out(&held) {
                Ok(()) => info!("cloud: an operation that was not finished is finished, or taken back"),
                Err(e) => {
                    warn!("cloud: an operation that was not finished: {e}");
                    all_done = false;
                }
            }
        }
        all_done
    }

    fn in_hand(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an intent in hand, unless another thread has it. Called while the store is locked, so that the intent is there.
    fn take(&self, number: &str) -> Option<Held<'_>> {
        self.in_hand().insert(number.to_owned()).then(|| Held { cloud: self, number: number.to_owned() })
    }

    /// As if another thread were carrying an intent out.
    #[cfg(test)]
    pub(super) fn hold_for_test(&self, number: &str) -> impl Drop {
        self.take(number).expect("nobody has it")
    }

    /// Takes the next intent in hand: its number is a text that sorts as the number does, and nobody's.
    fn take_next(&self, world: &World) -> Held<'_> {
        let mut in_hand = self.in_hand();
        let written = world.intents.iter().last().map(|(id, _)| id);
        let last = written.max(in_hand.last().map(String::as_str)).and_then(|id| id.parse::<u64>().ok());
        let number = format!("{:020}", last.unwrap_or(0) + 1);
        in_hand.insert(number.clone());
        Held { cloud: self, number }
    }
}

/// That this thread carries an intent out.
struct Held<'c> {
    cloud: &'c Cloud,
    number: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.cloud.in_hand().remove(&self.number);
    }
}

/// Refuses with `busy` if something is being done to one of these.
pub fn refuse_if_busy(world: &World, ids: &[&str], busy: impl FnOnce(&Intent) -> ApiError) -> Result<(), ApiError> {
    let touches = |open: &&Open| open.intent.work().touches().iter().any(|touched| ids.contains(&touched.as_str()));
    match world.intents.rows().find(touches) {
        Some(open) => Err(busy(&open.intent)),
        None => Ok(()),
    }
}

/// The client token of a request.
struct TokenOf {
    key: String,
    digest: String,
}

impl TokenOf {
    fn read(call: &Call<'_>) -> Result<Option<Self>, ApiError> {
        let Some(token) = call.params.text("ClientToken") else { return Ok(None) };
        if token.len() > LONGEST_TOKEN || !token.is_ascii() {
            return Err(ApiError::invalid("ClientToken"));
        }
        let mut hash = Sha256::new();
        for (name, value) in call.params.iter().filter(|(name, _)| !VOLATILE.contains(name)) {
            for text in [name, value] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Self { key: format!("{}/{}/{token}", call.account(), call.action), digest }))
    }

    /// What was answered when the token came first, if it came.
    fn answered(&self, world: &World) -> Result<Option<Value>, ApiError> {
        let Some(known) = world.tokens.get(&self.key) else { return Ok(None) };
        if known.digest != self.digest {
            return Err(ApiError::new("IdempotentParameterMismatch", 403, "The specified clientToken is used."));
        }
        if known.intent.is_some() {
            let what = "The previous idempotent request(s) is still processing.";
            return Err(ApiError::new("IdempotentProcessing", 403, what));
        }
        Ok(Some(known.answer.clone()))
    }

    fn keep(self, world: &mut World, answer: &Value, intent: Option<String>, now: u64) {
        let is_old = |token: &Token| token.intent.is_none() && token.at + TOKEN_SECONDS < now;
        let old: Vec<String> =
            world.tokens.iter().filter(|(_, token)| is_old(token)).map(|(key, _)| key.to_owned()).collect();
        old.iter().for_each(|key| drop(world.tokens.remove(key)));
        world.tokens.put(self.key, Token { digest: self.digest, answer: answer.clone(), intent, at: now });
    }
}
