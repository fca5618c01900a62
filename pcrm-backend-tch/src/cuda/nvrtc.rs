//! NVRTC, the compiler of CUDA sources: libtorch's own, whatever toolkit the system has.

#![allow(unsafe_code, reason = "NVRTC is a C library that is loaded by name")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use libloading::{Library, Symbol};

/// The libraries that lead to NVRTC. The first is libtorch's own link to the NVRTC that libtorch compiles with. The
/// others have a version: a name without one leads to the system's toolkit, whose PTX libtorch's driver may not know.
const NAMES: &[&str] = match cfg!(windows) {
    true => &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"],
    false => &["libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"],
};

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// Compiles a source to PTX, or fails with the reason.
pub(super) fn compile(source: &str, options: &[String]) -> Result<String, String> {
    let library = loaded()?;
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (source, name) = (text(source)?, text("kernels.cu")?);
    let options: Vec<CString> = options.iter().map(|option| text(option)).collect::<Result<_, _>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program: Program = ptr::null_mut();
    // SAFETY: the signatures match nvrtc.h, and the strings live until the program is destroyed.
    unsafe {
        let create: Symbol<'_, Create> = symbol(library, "nvrtcCreateProgram")?;
        let compile: Symbol<'_, Compile> = symbol(library, "nvrtcCompileProgram")?;
        let destroy: Symbol<'_, Destroy> = symbol(library, "nvrtcDestroyProgram")?;
        match create(&raw mut program, source.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null()) {
            0 => {}
            code => return Err(format!("NVRTC cannot create a program: error {code}")),
        }
        let compiled = match compile(program, options.len() as c_int, options.as_ptr()) {
            0 => read(library, program, ["nvrtcGetPTXSize", "nvrtcGetPTX"]),
            code => {
                let log = read(library, program, ["nvrtcGetProgramLogSize", "nvrtcGetProgramLog"]);
                let log = log.unwrap_or_else(|error| error);
                Err(format!("NVRTC: error {code}: {}", log.lines().next().unwrap_or_default()))
            }
        };
        destroy(&raw mut program);
        compiled
    }
}

/// Returns the library, loaded once.
fn loaded() -> Result<&'static Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let open = || {
        let library = first_with(NAMES, "nvrtcVersion")
            .ok_or_else(|| format!("NVRTC is not found as any of {}", NAMES.join(", ")))?;
        keep_built_ins(&library)?;
        Ok(library)
    };
    LIBRARY.get_or_init(open).as_ref().map_err(Clone::clone)
}

/// Opens the first of these libraries that has a function, itself or in a library that it is linked to.
fn first_with(names: &[&str], function: &str) -> Option<Library> {
    names.iter().find_map(|name| {
        // SAFETY: these libraries only register themselves when they are loaded; the function is not called.
        unsafe {
            let library = Library::new(*name).ok()?;
            let has = library.get::<*const c_void>(function).is_ok();
            has.then_some(library)
        }
    })
}

/// Loads the library that NVRTC opens by name when it compiles, from NVRTC's own folder and in its version.
fn keep_built_ins(library: &Library) -> Result<(), String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the signature matches nvrtc.h.
    unsafe {
        let version: Symbol<'_, Version> = symbol(library, "nvrtcVersion")?;
        version(&raw mut major, &raw mut minor);
    }
    let name = format!("libnvrtc-builtins.so.{major}.{minor}");
    let beside = file_of(library, "nvrtcVersion").map(|path| path.with_file_name(&name));
    let known = [beside, Some(PathBuf::from(name))];
    // SAFETY: the library only registers itself; it is never unloaded. If it is missing, NVRTC's error names it.
    if let Some(built_ins) = known.iter().flatten().find_map(|path| unsafe { Library::new(path) }.ok()) {
        std::mem::forget(built_ins);
    }
    Ok(())
}

/// Returns the file of the library that holds a function.
#[cfg(target_os = "linux")]
fn file_of(library: &Library, function: &str) -> Option<PathBuf> {
    use std::ffi::{CStr, OsStr};
    use std::os::unix::ffi::OsStrExt;
    let mut place = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address belongs to a loaded function; dladdr fills the structure unless it returns 0, with a name
    // that lives as long as the library.
    let name = unsafe {
        let symbol = library.get::<unsafe extern "C" fn()>(function).ok()?;
        if libc::dladdr(*symbol as *const c_void, place.as_mut_ptr()) == 0 {
            return None;
        }
        let name = place.assume_init().dli_fname;
        (!name.is_null()).then(|| CStr::from_ptr(name))?
    };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

#[cfg(not(target_os = "linux"))]
fn file_of(_: &Library, _: &str) -> Option<PathBuf> {
    None
}

/// Reads a text of a program, such as its PTX or log, with the functions that return its size and its bytes.
///
/// # Safety
/// The program must exist.
unsafe fn read(library: &Library, program: Program, [size_of, text_of]: [&str; 2]) -> Result<String, String> {
    let mut size = 0;
    // SAFETY: the signatures match nvrtc.h, and the buffer has the size that it asks for.
    unsafe {
        let size_of: Symbol<'_, Size> = symbol(library, size_of)?;
        let text_of: Symbol<'_, Text> = symbol(library, text_of)?;
        size_of(program, &raw mut size);
        let mut bytes = vec![0_u8; size];
        if size > 0 {
            text_of(program, bytes.as_mut_ptr().cast());
        }
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(size));
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }
}

/// # Safety
/// `T` must be the function's signature.
unsafe fn symbol<'a, T>(library: &'a Library, name: &str) -> Result<Symbol<'a, T>, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get(name) }.map_err(|error| format!("NVRTC lacks {name}: {error}"))
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Protects: a function is found through the library that is linked to it, as NVRTC through libtorch's link, and
    /// its own file is known; a library without the function is passed over.
    #[test]
    fn functions_are_found_through_a_link() {
        // The library of mathematics has no getpid: it is linked to the C library, which has.
        let names = ["libpcrm-has-no-such.so.7", "libm.so.6"];
        let library = first_with(&names, "getpid").expect("libm is linked to libc");
        let file = file_of(&library, "getpid").and_then(|path| Some(path.file_name()?.to_owned()));
        assert_eq!(file.as_deref(), Some("libc.so.6".as_ref()));
        assert!(first_with(&names, "nvrtcVersion").is_none());
    }

    /// Protects: libtorch's link is tried first, and no name leads to whatever toolkit the system has.
    #[test]
    fn every_name_is_of_libtorch_or_of_a_version() {
        assert_eq!(NAMES[0], "libcaffe2_nvrtc.so");
        assert!(NAMES[1..].iter().all(|name| !name.ends_with(".so")), "{NAMES:?}");
    }
}
