//! What is logged: a filter that can be changed while the target runs.

use std::sync::Mutex;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The subscriber above which lines are written: it lets through what the filter lets through.
pub type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// What is logged.
pub struct LogFilter {
    text: Mutex<String>,
    /// A process whose logging is somebody else's affair has none.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

/// Why a filter cannot be used.
#[derive(Debug, Error)]
pub enum LogFilterError {
    /// It is none.
    #[error(
        "{text:?} is no log filter ({what}); write error, warn, info, debug, or such as info,strongroom::export=debug"
    )]
    Wrong {
        /// The filter.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// The process does not log through this filter.
    #[error("the log of this process cannot be changed")]
    Fixed,
}

impl LogFilter {
    /// A filter, and the layer that has to be put under the lines.
    pub fn new(text: &str) -> Result<(Self, reload::Layer<EnvFilter, Registry>), LogFilterError> {
        let (layer, handle) = reload::Layer::new(parse(text)?);
        Ok((Self { text: Mutex::new(text.to_owned()), handle: Some(handle) }, layer))
    }

    /// A filter that is never asked.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { text: Mutex::default(), handle: None }
    }

    /// The filter, as it was written.
    pub fn text(&self) -> String {
        self.text.lock().expect("no thread panics while it holds this lock").clone()
    }

    /// Logs by another filter from now on.
    pub fn set(&self, text: &str) -> Result<(), LogFilterError> {
        let filter = parse(text)?;
        let mut shown = self.text.lock().expect("no thread panics while it holds this lock");
        let handle = self.handle.as_ref().ok_or(LogFilterError::Fixed)?;
        handle.reload(filter).map_err(|_| LogFilterError::Fixed)?;
        text.clone_into(&mut shown);
        Ok(())
    }
}

/// A bare word that is no level would be taken for a module that nobody has: all would be silent.
fn parse(text: &str) -> Result<EnvFilter, LogFilterError> {
    let wrong = |what: &str| LogFilterError::Wrong { text: text.to_owned(), what: what.to_owned() };
    let bare = |part: &&str| !part.contains(['=', '[']) && !part.starts_with("strongroom");
    for word in text.split(',').map(str::trim).filter(bare) {
        // Nothing at all would be read as a level, too.
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            return Err(wrong(&format!("{word:?} is no level")));
        }
    }
    EnvFilter::try_new(text).map_err(|e| wrong(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_modules() {
        for text in ["info", "warn,strongroom::export=debug", "strongroom::control=trace", "off", "strongroom"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in ["", "loud", "info,wombat", "strongroom=loud"] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("no log filter"), "{error}");
        }
    }

    #[test]
    fn a_filter_is_changed_while_it_is_used() {
        let (filter, layer) = LogFilter::new("info").expect("a filter");
        let _held = layer;
        filter.set("debug").expect("changed");
        assert_eq!(filter.text(), "debug");
        assert!(filter.set("loud").is_err());
        assert_eq!(filter.text(), "debug", "a wrong filter changes nothing");
        assert!(LogFilter::none().set("info").is_err());
    }
}
