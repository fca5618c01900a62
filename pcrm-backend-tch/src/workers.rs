//! Many small work items on the CPU, one thread each.
//!
//! libtorch divides every operation among all threads and waits for the last of them. For operations of a few
//! microseconds the waiting costs as much as the work, and operands leave the cache between operations. So a
//! sequence of small operations is divided into pieces, and one thread does all operations of a piece.
//!
//! The threads are libtorch's own, those of GNU's OpenMP: other threads would compete with them, because they
//! spin for a while after every operation. libtorch detects that it is inside a parallel region and does not
//! divide again.

#![allow(unsafe_code, reason = "a parallel region of OpenMP is a C function that takes a C function")]

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tch::{Device, TchError, Tensor as Torch};

use crate::ops::Torched;

/// Elements of a piece: a handful of tensors of this length fit the second-level cache.
const PIECE: i64 = 64 * 1024;

/// Processes every piece on one thread and returns the results in the order of the pieces.
///
/// A single piece runs on one thread too: libtorch would divide it according to the number of threads, and
/// the last elements of a share get other bits. Off the CPU, the calling thread processes all pieces.
pub(crate) fn each<P: Send, R: Send>(
    device: Device,
    pieces: Vec<P>,
    work: impl Fn(P) -> Torched<R> + Sync,
) -> Torched<Vec<R>> {
    match device {
        Device::Cpu => spread(pieces, work, threads()),
        _ => pieces.into_iter().map(work).collect(),
    }
}

/// Returns the number of threads that libtorch computes with.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

fn spread<P: Send, R: Send>(
    pieces: Vec<P>,
    work: impl Fn(P) -> Torched<R> + Sync,
    threads: usize,
) -> Torched<Vec<R>> {
    match region() {
        Some(region) if threads > 1 => {
            let job = Job::new(pieces, &work);
            job.run_on(region, threads);
            job.results()
        }
        _ => pieces.into_iter().map(work).collect(),
    }
}

/// Divides the elements of a vector into pieces (start, length); a single piece off the CPU.
pub(crate) fn elements(x: &Torch) -> Vec<(i64, i64)> {
    pieces(x, 1)
}

/// Divides the rows of `[rows, ..]` into pieces (start, length); a single piece off the CPU.
pub(crate) fn rows(x: &Torch) -> Vec<(i64, i64)> {
    pieces(x, x.numel() as i64 / x.size()[0].max(1))
}

fn pieces(x: &Torch, width: i64) -> Vec<(i64, i64)> {
    let length = x.size()[0];
    let size = if x.device() == Device::Cpu { (PIECE / width.max(1)).max(1) } else { length.max(1) };
    (0..length).step_by(size as usize).map(|start| (start, size.min(length - start))).collect()
}

type Region = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// Returns `GOMP_parallel` of the libgomp shipped with libtorch, or `None` if it uses another OpenMP.
fn region() -> Option<Region> {
    static REGION: OnceLock<Option<Region>> = OnceLock::new();
    *REGION.get_or_init(|| {
        #[cfg(unix)]
        {
            use libloading::os::unix::Library;
            // SAFETY: the symbol has had this signature since libgomp 1.0 (GCC 4.9); it is never unloaded,
            // because libtorch links to it.
            unsafe { Library::this().get::<Region>(b"GOMP_parallel\0").ok().map(|symbol| *symbol) }
        }
        #[cfg(not(unix))]
        None
    })
}

/// The state shared by the threads of a region.
struct Job<'a, P, R, W> {
    pieces: Vec<Mutex<Option<P>>>,
    results: Vec<Mutex<Option<Torched<R>>>>,
    next: AtomicUsize,
    work: &'a W,
}

impl<'a, P: Send, R: Send, W: Fn(P) -> Torched<R> + Sync> Job<'a, P, R, W> {
    fn new(pieces: Vec<P>, work: &'a W) -> Self {
        let results = pieces.iter().map(|_| Mutex::new(None)).collect();
        let pieces = pieces.into_iter().map(|piece| Mutex::new(Some(piece))).collect();
        Self { pieces, results, next: AtomicUsize::new(0), work }
    }

    fn run_on(&self, region: Region, threads: usize) {
        // SAFETY: `region` is GOMP_parallel, which calls `run` with this job on `threads` threads and returns
        // after all of them have. The job is shared between them (pieces and results behind locks, `work` is
        // Sync) and outlives the call, and `run` does not unwind.
        unsafe { region(Self::run, std::ptr::from_ref(self).cast_mut().cast(), threads as c_uint, 0) }
    }

    /// The body of every thread of the region: takes pieces until none are left.
    extern "C" fn run(job: *mut c_void) {
        // SAFETY: `each` passes a job that outlives the region; threads only share it.
        let job = unsafe { &*job.cast::<Self>() };
        loop {
            let at = job.next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = job.pieces.get(at) else { return };
            let Some(piece) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (job.work)(piece)));
            *job.results[at].lock().unwrap_or_else(PoisonError::into_inner) = done.ok();
        }
    }

    fn results(self) -> Torched<Vec<R>> {
        let panicked = || Err(TchError::Torch("a worker thread panicked".to_owned()));
        let take =
            |slot: Mutex<Option<Torched<R>>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.results.into_iter().map(|slot| take(slot).unwrap_or_else(panicked)).collect()
    }
}
