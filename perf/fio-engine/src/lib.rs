//! `libstrongroom_fio.so`: Strongroom's disks as an engine of fio, in fio's own process. `scripts/fio-engine` builds it and says how it is used.
//!
//! ```text
//! fio --ioengine=external:/PATH/libstrongroom_fio.so --thread=1 --strongroom_conf=FILE --filename=DISK …
//! ```
//!
//! | module | what it owns |
//! | --- | --- |
//! | `abi` | what fio calls, and its pointers |
//! | `disks` | the configurations and disks that the process has opened, shared by its jobs |
//! | `engine` | a job while it runs: the reactor on its thread and the slots of its queue |
//! | `options` | the engine's options |
//!
//! A job's thread is its reactor: a command is taken, served and completed on it, without a hand-over. Nothing is allocated for a command.
//!
//! Built without the feature `fio` this is an empty library, which fio refuses to load.
#![cfg(feature = "fio")]

mod abi;
mod disks;
mod engine;
mod options;
