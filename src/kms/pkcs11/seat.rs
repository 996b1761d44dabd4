//! The one helper of a provider: callers have it in turn, and each begins with one that lives.
//!
//! - A helper is kept from call to call until it has been idle for a while, and is let go of after any failure.
//! - A call takes no longer than the time-out, waiting for its turn and the start of a helper included.
//! - **A PIN that the token has refused is never tried again**: tokens lock after a few. Only another one, read from where the PIN lies, is.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::memory::Secret;
use crate::secrets::SecretText;

use super::Pkcs11Config;
use super::message::{Failure, Request};
use super::process::{Ending, Helper, Trouble};

/// Why a call did not come to its end.
#[derive(Debug)]
pub(super) enum SeatError {
    Helper(Trouble),
    /// Calls before this one took all of its time.
    Busy,
    /// The PIN cannot be read.
    Pin(crate::secrets::SecretRefError),
    /// The PIN is the one that the token has refused.
    KnownWrongPin,
}

impl From<Trouble> for SeatError {
    fn from(trouble: Trouble) -> Self {
        Self::Helper(trouble)
    }
}

/// The place of the helper.
pub(super) struct Seat {
    config: Pkcs11Config,
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    taken: bool,
    helper: Option<Helper>,
    refused_pin: Option<Secret<SecretText>>,
}

impl Seat {
    pub(super) fn new(config: Pkcs11Config) -> Self {
        Self { config, state: Mutex::default(), free: Condvar::new() }
    }

    pub(super) fn config(&self) -> &Pkcs11Config {
        &self.config
    }

    /// The process of the helper that waits for the next call, if there is one.
    pub(super) fn helper_pid(&self) -> Option<u32> {
        self.lock().helper.as_ref().filter(|helper| !helper.has_ended()).map(Helper::pid)
    }

    /// Makes a call. It is repeated only if a helper had gone before it saw anything of it.
    pub(super) fn call<T>(&self, call: impl Fn(&Helper, Instant) -> Result<T, Trouble>) -> Result<T, SeatError> {
        let until = Instant::now() + self.config.timeout();
        let turn = self.take_turn(until)?;
        // Taken by itself: the lock is not held during the call.
        let waiting = self.lock().helper.take();
        if let Some(helper) = waiting.filter(|helper| !helper.has_ended()) {
            match turn.with(helper, until, &call) {
                Err(Trouble::Ended(Ending::Idle)) => {}
                other => return Ok(other?),
            }
        }
        let pin = self.pin()?;
        let helper = Helper::start(&self.config)?;
        self.begin(&helper, pin, until)?;
        Ok(turn.with(helper, until, &call)?)
    }

    fn take_turn(&self, until: Instant) -> Result<Turn<'_>, SeatError> {
        let patience = until.saturating_duration_since(Instant::now());
        let waited = self.free.wait_timeout_while(self.lock(), patience, |state| state.taken);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.taken {
            return Err(SeatError::Busy);
        }
        state.taken = true;
        Ok(Turn { seat: self })
    }

    /// The PIN, unless the token is known not to take it.
    fn pin(&self) -> Result<Secret<SecretText>, SeatError> {
        let pin = self.config.pin.read().map_err(SeatError::Pin)?;
        let known = |refused: &Secret<SecretText>| bool::from(refused.as_bytes().ct_eq(pin.as_bytes()));
        if self.lock().refused_pin.as_ref().is_some_and(known) {
            return Err(SeatError::KnownWrongPin);
        }
        Ok(pin)
    }

    /// Has the library loaded, and logs in.
    fn begin(&self, helper: &Helper, pin: Secret<SecretText>, until: Instant) -> Result<(), Trouble> {
        let begun = self.log_in(helper, &pin, until);
        match &begun {
            Err(Trouble::TimedOut) => helper.kill(),
            Err(Trouble::Failed { failure: Failure::WrongPin, .. }) => self.lock().refused_pin = Some(pin),
            Ok(()) => self.lock().refused_pin = None,
            Err(_) => {}
        }
        begun
    }

    fn log_in(&self, helper: &Helper, pin: &SecretText, until: Instant) -> Result<(), Trouble> {
        let Pkcs11Config { module, token, .. } = &self.config;
        let idle_ms = self.config.idle.as_millis().try_into().unwrap_or(u32::MAX);
        helper.have_done(&Request::Open { module: module.as_os_str().as_bytes(), token, idle_ms }, until)?;
        helper.have_done(&Request::Login { pin: pin.as_bytes() }, until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in it is ever half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use the seat; given on when dropped.
struct Turn<'a> {
    seat: &'a Seat,
}

impl Turn<'_> {
    /// Keeps the helper if all went well.
    fn with<T>(
        &self,
        helper: Helper,
        until: Instant,
        call: impl Fn(&Helper, Instant) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let outcome = call(&helper, until);
        match &outcome {
            Ok(_) => self.seat.lock().helper = Some(helper),
            Err(Trouble::TimedOut) => helper.kill(),
            Err(_) => {}
        }
        outcome
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.seat.lock().taken = false;
        self.seat.free.notify_one();
    }
}

/// How long a helper waits for the next call: a library may keep traces of keys on its heap, and they go with the process.
pub(super) const IDLE: Duration = Duration::from_secs(2);
