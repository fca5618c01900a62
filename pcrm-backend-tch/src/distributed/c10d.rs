//! Owned handles for the functions of `c10d/shim.cpp` and `c10d/nccl.cpp`.

#![allow(
    unsafe_code,
    reason = "c10d is a C++ library; the shim's functions are called here and nowhere else"
)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use tch::Tensor as Torch;
use torch_sys::C_tensor;

#[repr(C)]
struct RawStore {
    _private: [u8; 0],
}

#[repr(C)]
struct RawGroup {
    _private: [u8; 0],
}

#[repr(C)]
struct RawPending {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn pcrm_text_free(text: *mut c_char);
    fn pcrm_store_open(
        host: *const c_char,
        port: u16,
        serves: bool,
        socket: c_int,
        prefix: *const c_char,
        timeout_ms: i64,
        store: *mut *mut RawStore,
    ) -> *mut c_char;
    fn pcrm_store_free(store: *mut RawStore);
    fn pcrm_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
    ) -> *mut c_char;
    fn pcrm_store_get(store: *mut RawStore, key: *const c_char, value: *mut *mut c_char) -> *mut c_char;
    fn pcrm_group_join(
        store: *mut RawStore,
        rank: c_int,
        world: c_int,
        address: *const c_char,
        interface: *const c_char,
        timeout_ms: i64,
        group: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn pcrm_group_join_nccl(
        store: *mut RawStore,
        rank: c_int,
        world: c_int,
        timeout_ms: i64,
        group: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn pcrm_group_abort(group: *mut RawGroup);
    fn pcrm_group_leave(group: *mut RawGroup);
    fn pcrm_group_start_all_to_all(
        group: *mut RawGroup,
        out: *mut C_tensor,
        own: *mut C_tensor,
        pending: *mut *mut RawPending,
    ) -> *mut c_char;
    fn pcrm_pending_wait(pending: *mut RawPending) -> *mut c_char;
    fn pcrm_pending_free(pending: *mut RawPending);
    fn pcrm_group_all_gather(group: *mut RawGroup, out: *mut C_tensor, own: *mut C_tensor) -> *mut c_char;
}

/// The error message of a function of the shim.
pub(super) type Failed = String;

/// Takes a text that the shim allocated; returns `None` for a null pointer.
fn taken(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim returns NUL-terminated texts that it allocated, and the caller frees them with this
    // function.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        pcrm_text_free(text);
        Some(owned)
    }
}

fn done(message: *mut c_char) -> Result<(), Failed> {
    taken(message).map_or(Ok(()), |message| Err(message.trim().to_owned()))
}

fn text(value: &str) -> Result<CString, Failed> {
    CString::new(value).map_err(|_| format!("{value:?} holds a zero byte"))
}

fn number(value: usize) -> Result<c_int, Failed> {
    c_int::try_from(value).map_err(|_| format!("{value}: too many processes"))
}

fn millis(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)
}

/// The role of a process in the key-value store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Connects to it.
    Client,
    /// Serves it, and listens on its port.
    Server,
    /// Serves it on a listening socket that the process inherited, given by its descriptor.
    Heir(c_int),
}

/// A connection to the key-value store, and the store itself if this process serves it.
#[derive(Debug)]
pub(super) struct Store(*mut RawStore);

// SAFETY: a c10d::Store may be used from several threads; TCPStore guards its connection with a mutex.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Opens the store, as its server or as a client that retries until the timeout.
    pub fn open(host: &str, port: u16, part: Part, prefix: &str, timeout: Duration) -> Result<Self, Failed> {
        let (serves, socket) = match part {
            Part::Client => (false, -1),
            Part::Server => (true, -1),
            Part::Heir(socket) => (true, socket),
        };
        let (host, prefix) = (text(host)?, text(prefix)?);
        let mut store = std::ptr::null_mut();
        // SAFETY: the texts outlive the call, and `store` is writable.
        done(unsafe {
            pcrm_store_open(
                host.as_ptr(),
                port,
                serves,
                socket,
                prefix.as_ptr(),
                millis(timeout),
                &raw mut store,
            )
        })?;
        Ok(Self(store))
    }

    /// Sets a key.
    pub fn set(&self, key: &str, value: &str) -> Result<(), Failed> {
        let key = text(key)?;
        // SAFETY: the store lives as long as `self`; the key and the value outlive the call.
        done(unsafe { pcrm_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// Returns the value of a key, or `None` if it is not set.
    pub fn get(&self, key: &str) -> Result<Option<String>, Failed> {
        let key = text(key)?;
        let mut value = std::ptr::null_mut();
        // SAFETY: the store lives as long as `self`; the key outlives the call, and `value` is writable.
        done(unsafe { pcrm_store_get(self.0, key.as_ptr(), &raw mut value) })?;
        Ok(taken(value))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: `open` created it, and nothing uses it after this.
        unsafe { pcrm_store_free(self.0) }
    }
}

/// The membership of this process in the group.
#[derive(Debug)]
pub(super) struct Group(*mut RawGroup);

// SAFETY: the group is used by one thread at a time, behind a mutex.
unsafe impl Send for Group {}

impl Group {
    /// Joins the group of `world` processes that meet in the store.
    pub fn join(
        store: &Store,
        rank: usize,
        world: usize,
        address: &str,
        interface: &str,
        timeout: Duration,
    ) -> Result<Self, Failed> {
        let (address, interface) = (text(address)?, text(interface)?);
        let mut group = std::ptr::null_mut();
        let (rank, world) = (number(rank)?, number(world)?);
        // SAFETY: the store lives through the call, and the group keeps its own reference to it; the texts
        // outlive the call, and `group` is writable.
        done(unsafe {
            pcrm_group_join(
                store.0,
                rank,
                world,
                address.as_ptr(),
                interface.as_ptr(),
                millis(timeout),
                &raw mut group,
            )
        })?;
        Ok(Self(group))
    }

    /// Joins an NCCL group of `world` processes that meet in the store; they connect in their first operation.
    pub fn join_nccl(store: &Store, rank: usize, world: usize, timeout: Duration) -> Result<Self, Failed> {
        let mut group = std::ptr::null_mut();
        let (rank, world) = (number(rank)?, number(world)?);
        // SAFETY: the store lives through the call, and the group keeps its own reference to it; `group` is
        // writable.
        done(unsafe { pcrm_group_join_nccl(store.0, rank, world, millis(timeout), &raw mut group) })?;
        Ok(Self(group))
    }

    /// Ends all operations of an NCCL group, which cannot be used after this.
    pub fn abort(&mut self) {
        // SAFETY: the group lives as long as `self`, and nothing else uses it.
        unsafe { pcrm_group_abort(self.0) }
    }

    /// Sends part r of `own` to rank r, and overwrites part r of `out` with the part from rank r.
    pub fn all_to_all(&mut self, out: &mut Torch, own: &Torch) -> Result<(), Failed> {
        self.start_all_to_all(out.shallow_clone(), own.shallow_clone())?.wait().map(drop)
    }

    /// Starts [`Group::all_to_all`].
    pub fn start_all_to_all(&mut self, mut out: Torch, own: Torch) -> Result<Pending, Failed> {
        let mut pending = std::ptr::null_mut();
        // SAFETY: c10d keeps its own references to both tensors until the operation is complete; nothing else
        // uses the group, and `pending` is writable.
        done(unsafe {
            pcrm_group_start_all_to_all(self.0, out.as_mut_ptr(), own.as_ptr().cast_mut(), &raw mut pending)
        })?;
        Ok(Pending { operation: Operation(pending), out, _own: own })
    }

    /// Overwrites part r of `out` with `own` of rank r.
    pub fn all_gather(&mut self, out: &mut Torch, own: &Torch) -> Result<(), Failed> {
        // SAFETY: both tensors outlive the call, which returns when the operation is complete, and nothing
        // else uses the group.
        done(unsafe { pcrm_group_all_gather(self.0, out.as_mut_ptr(), own.as_ptr().cast_mut()) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: `join` or `join_nccl` created it, and nothing uses it after this.
        unsafe { pcrm_group_leave(self.0) }
    }
}

/// An operation that is under way, and its result. If dropped, it still completes.
#[derive(Debug)]
pub(super) struct Pending {
    operation: Operation,
    out: Torch,
    _own: Torch,
}

#[derive(Debug)]
struct Operation(*mut RawPending);

// SAFETY: a c10d::Work may be waited for and freed in any thread.
unsafe impl Send for Operation {}

impl Pending {
    /// Waits until the operation is complete, and returns what arrived.
    pub fn wait(self) -> Result<Torch, Failed> {
        // SAFETY: `Group::start_all_to_all` created the operation, which lives as long as `self`.
        done(unsafe { pcrm_pending_wait(self.operation.0) })?;
        Ok(self.out)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: `Group::start_all_to_all` created it, and nothing uses it after this.
        unsafe { pcrm_pending_free(self.0) }
    }
}
