//! The engine's options: what fio parses and `--enghelp` shows.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char};
use std::mem::{MaybeUninit, offset_of};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use strongroom_sys::fio::{FIO_OPT_C_ENGINE, FIO_OPT_G_INVALID, FIO_OPT_STR_STORE, fio_option, thread_data};

/// Where fio puts what it has parsed. The first member is fio's own.
#[repr(C)]
pub(crate) struct Options {
    _td: *mut thread_data,
    conf: *const c_char,
}

impl Options {
    /// The options of a job.
    ///
    /// # Safety
    /// The job is one of this engine, and its options are parsed.
    pub(crate) unsafe fn of<'a>(td: *mut thread_data) -> &'a Self {
        // SAFETY: fio makes this struct, of the size in the engine's operations, when it parses the options of a job.
        unsafe { &*(*td).eo.cast::<Self>() }
    }

    /// The configuration file, if one is named.
    pub(crate) fn conf(&self) -> Option<&Path> {
        // SAFETY: fio stores nothing, or a string that lives as long as the job.
        let conf = (!self.conf.is_null()).then(|| unsafe { CStr::from_ptr(self.conf) })?;
        Some(Path::new(OsStr::from_bytes(conf.to_bytes())))
    }
}

const NONE: fio_option = {
    // SAFETY: numbers, enums with a member of value 0, and pointers and functions that may be null.
    unsafe { MaybeUninit::zeroed().assume_init() }
};

/// The list that fio reads, and completes in place; its last entry is empty.
pub(crate) static mut OPTIONS: [fio_option; 2] = [
    fio_option {
        name: c"strongroom_conf".as_ptr(),
        lname: c"Strongroom's configuration".as_ptr(),
        type_: FIO_OPT_STR_STORE,
        off1: offset_of!(Options, conf) as u32,
        help: c"Configuration file of Strongroom, as for `strongroom serve`; filename= names one of its disks, or several with ':' between them. Nothing is exported, and what writes destroy is the disk's content"
            .as_ptr(),
        category: FIO_OPT_C_ENGINE as u64,
        group: FIO_OPT_G_INVALID,
        ..NONE
    },
    NONE,
];
