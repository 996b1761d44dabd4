//! What fio calls, and its pointers: fio loads the library, finds [`ioengine`] in it and goes through these functions.
//!
//! `setup` runs on fio's main thread and opens the job's disks; everything else runs on the job's own thread, one call at a time.
//! Facts: fio's `ioengines.h`, `engines/skeleton_external.c`, `ioengines.c`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use strongroom_sys::fio::{
    FIO_DISKLESSIO, FIO_FILE_size_known, FIO_IOOPS_VERSION, FIO_NODISKUTIL, FIO_NOEXTEND, FIO_Q_BUSY, FIO_Q_QUEUED,
    FIO_RAWIO, FIO_TYPE_BLOCK, VERSION, fio_file, fio_option, fio_q_status, fio_version_string, io_u, ioengine_ops,
    log_err, thread_data, timespec,
};

use crate::disks::{self, OpenDisk};
use crate::engine::Engine;
use crate::options::{OPTIONS, Options};

/// The engine as fio finds it. fio keeps its list of engines in it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut ioengine: ioengine_ops = ioengine_ops {
    name: c"strongroom".as_ptr(),
    version: FIO_IOOPS_VERSION as c_int,
    flags: (FIO_RAWIO | FIO_DISKLESSIO | FIO_NODISKUTIL | FIO_NOEXTEND) as c_int,
    setup: Some(setup),
    init: Some(init),
    queue: Some(queue),
    commit: Some(commit),
    getevents: Some(getevents),
    event: Some(event),
    errdetails: Some(errdetails),
    cleanup: Some(cleanup),
    open_file: Some(open_file),
    close_file: Some(close_file),
    invalidate: Some(invalidate),
    get_file_size: Some(get_file_size),
    option_struct_size: size_of::<Options>() as c_int,
    options: (&raw mut OPTIONS).cast::<fio_option>(),
    // SAFETY: numbers, pointers and functions that may be null.
    ..unsafe { MaybeUninit::zeroed().assume_init() }
};

/// What a job has from `setup` to `cleanup`.
struct Job {
    disks: Vec<Arc<OpenDisk>>,
    engine: Option<Engine>,
}

/// Tells people something, through fio.
pub(crate) fn say(text: &str) {
    // A text of ours has no NUL inside; one that had would be cut there.
    let text = CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default();
    // SAFETY: the format takes one string, and is given one.
    unsafe { log_err(c"strongroom: %s\n".as_ptr(), text.as_ptr()) };
}

/// # Safety
/// `pointer` is null or a string of fio's.
unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: as promised.
    let text = (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) });
    text.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
}

/// # Safety
/// `td` is a job of this engine, whose options are parsed.
unsafe fn files<'a>(td: *mut thread_data) -> &'a [*mut fio_file] {
    // SAFETY: fio's table has `files_index` files.
    unsafe {
        match (*td).files_index as usize {
            0 => &[],
            count => std::slice::from_raw_parts((*td).files, count),
        }
    }
}

/// # Safety
/// As for [`files`].
unsafe fn job<'a>(td: *mut thread_data) -> Option<&'a mut Job> {
    // SAFETY: the pointer is null or what `setup` put there, and fio makes one call at a time.
    unsafe { (*td).io_ops_data.cast::<Job>().as_mut() }
}

/// Runs a hook that may refuse; says why, and gives fio its error.
fn refusing(hook: impl FnOnce() -> Result<(), String>) -> c_int {
    match hook() {
        Ok(()) => 0,
        Err(why) => {
            say(&why);
            1
        }
    }
}

extern "C" fn setup(td: *mut thread_data) -> c_int {
    // SAFETY: fio gives a job of this engine.
    refusing(|| unsafe { set_up(td) })
}

/// # Safety
/// As for [`files`].
unsafe fn set_up(td: *mut thread_data) -> Result<(), String> {
    // SAFETY: fio's constant string.
    let running = unsafe { text((&raw const fio_version_string).cast()) };
    if running != VERSION {
        return Err(format!(
            "this engine was built for {VERSION} and this is {running}: their jobs differ in memory; build it anew with scripts/fio-engine"
        ));
    }
    // SAFETY: the job's options are parsed.
    let (name, is_thread, options) = unsafe { (text((*td).o.name), (*td).o.use_thread != 0, Options::of(td)) };
    if !is_thread {
        return Err(format!(
            "job {name}: jobs that are processes cannot share an open disk; add thread=1 (on the command line: --thread)"
        ));
    }
    let Some(conf) = options.conf() else {
        return Err(format!("job {name}: strongroom_conf= is missing; name the configuration that has the disk"));
    };
    // SAFETY: as this function.
    let files = unsafe { files(td) };
    if files.is_empty() {
        return Err(format!("job {name}: filename= is missing; name a disk of {}", conf.display()));
    }
    let mut disks = Vec::new();
    for &file in files {
        // SAFETY: the table's files live as long as the job.
        let file = unsafe { &mut *file };
        // SAFETY: every file has a name.
        let disk = unsafe { text(file.file_name) };
        let open = disks::open(conf, &disk).map_err(|e| format!("job {name}: {e}"))?;
        // SAFETY: as this function.
        unsafe { check_blocks(td, &name, &open) }?;
        file.real_file_size = open.disk.size();
        file.filetype = FIO_TYPE_BLOCK;
        file.flags |= FIO_FILE_size_known;
        disks.push(open);
    }
    let job = Box::new(Job { disks, engine: None });
    // SAFETY: the place is the engine's own; `cleanup` takes the job back.
    unsafe { (*td).io_ops_data = Box::into_raw(job).cast() };
    Ok(())
}

/// Refuses blocks that are not made of sectors, which a run would only find out one error at a time.
///
/// # Safety
/// As for [`files`].
unsafe fn check_blocks(td: *mut thread_data, name: &str, open: &OpenDisk) -> Result<(), String> {
    let sector = open.disk.sector_size().bytes() as u64;
    // SAFETY: the job's options are parsed.
    let sizes = unsafe { (*td).o.min_bs };
    match sizes.iter().find(|&&size| !size.is_multiple_of(sector)) {
        Some(size) => Err(format!(
            "job {name}: bs={size} is not made of the {sector}-byte sectors of disk {}; set bs to a multiple of {sector}",
            open.disk.name()
        )),
        None => Ok(()),
    }
}

extern "C" fn init(td: *mut thread_data) -> c_int {
    refusing(|| {
        // SAFETY: fio gives a job of this engine, on its own thread.
        let (name, job, o) = unsafe { (text((*td).o.name), job(td), &(*td).o) };
        let Some(job) = job else { return Err(format!("job {name}: it was not set up")) };
        let pauses =
            o.thinktime != 0 || o.rate.iter().any(|&rate| rate != 0) || o.rate_iops.iter().any(|&rate| rate != 0);
        let engine = Engine::start(&job.disks, o.iodepth as usize, pauses);
        job.engine = Some(engine.map_err(|e| format!("job {name}: {e}"))?);
        Ok(())
    })
}

/// # Safety
/// As for [`files`], after `init`.
#[inline]
unsafe fn engine<'a>(td: *mut thread_data) -> &'a mut Engine {
    // SAFETY: as promised.
    let job = unsafe { job(td) };
    job.and_then(|job| job.engine.as_mut()).expect("fio runs only jobs that were set up")
}

extern "C" fn queue(td: *mut thread_data, command: *mut io_u) -> fio_q_status {
    // SAFETY: fio gives a job of this engine that was set up.
    let engine = unsafe { engine(td) };
    let taken = NonNull::new(command).is_some_and(|command| engine.queue(command));
    if taken { FIO_Q_QUEUED } else { FIO_Q_BUSY }
}

extern "C" fn commit(td: *mut thread_data) -> c_int {
    // SAFETY: fio gives a job of this engine that was set up.
    unsafe { engine(td) }.commit();
    0
}

extern "C" fn getevents(td: *mut thread_data, least: c_uint, most: c_uint, _within: *const timespec) -> c_int {
    // SAFETY: fio gives a job of this engine that was set up. fio gives a time only where it asks for no event at least.
    unsafe { engine(td) }.events(least as usize, most as usize) as c_int
}

extern "C" fn event(td: *mut thread_data, number: c_int) -> *mut io_u {
    // SAFETY: fio gives a job of this engine that was set up.
    let done = unsafe { engine(td) }.event(number as usize);
    done.map_or(std::ptr::null_mut(), NonNull::as_ptr)
}

/// What fio prints behind an error of a command, and frees.
extern "C" fn errdetails(command: *mut io_u) -> *mut c_char {
    // SAFETY: fio gives a command that failed, with its file.
    let (file, error) = unsafe { (text((*(*command).file).file_name), (*command).error as c_int) };
    let why = match error {
        libc::EINVAL => "the range is not made of whole sectors within the disk; look at bs, offset and size",
        libc::EROFS => "the disk may only be read",
        libc::ENOSPC => "its pool or file system is full; make room there",
        libc::EOPNOTSUPP => "the disk cannot do this",
        _ => "its device failed; the kernel's log may say more",
    };
    let text = CString::new(format!("strongroom: disk {file}: {why}")).unwrap_or_default();
    // SAFETY: a string is copied to memory that fio frees.
    unsafe { libc::strdup(text.as_ptr()) }
}

extern "C" fn cleanup(td: *mut thread_data) {
    // SAFETY: fio gives a job of this engine for the last time.
    let job = unsafe {
        let job = (*td).io_ops_data.cast::<Job>();
        (*td).io_ops_data = std::ptr::null_mut();
        if job.is_null() {
            return;
        }
        Box::from_raw(job)
    };
    drop(job.engine);
    disks::release(job.disks);
}

/// Disks are open from `setup` to `cleanup`.
extern "C" fn open_file(_td: *mut thread_data, _file: *mut fio_file) -> c_int {
    0
}

extern "C" fn close_file(_td: *mut thread_data, _file: *mut fio_file) -> c_int {
    0
}

/// Disks are read past the page cache, so that there is nothing to forget.
extern "C" fn invalidate(_td: *mut thread_data, _file: *mut fio_file) -> c_int {
    0
}

extern "C" fn get_file_size(td: *mut thread_data, file: *mut fio_file) -> c_int {
    // SAFETY: fio gives a job of this engine and one of its files, which `setup` has numbered by their order.
    unsafe {
        let Some(job) = job(td) else { return 1 };
        let Some(open) = job.disks.get((*file).fileno as usize) else { return 1 };
        (*file).real_file_size = open.disk.size();
    }
    0
}
