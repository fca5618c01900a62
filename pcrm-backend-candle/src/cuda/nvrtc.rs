//! NVRTC, the compiler of CUDA sources. It is loaded when a kernel is first compiled, so that the program also
//! starts without it.

#![allow(unsafe_code, reason = "NVRTC is a C library that is loaded by name")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use libloading::{Library, Symbol};

/// The library's names, newest first.
const NAMES: [&str; 5] =
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"];

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
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;

/// Compiles a source to PTX for a GPU of this compute capability (90 for 9.0), or fails with the reason.
pub(super) fn compile(source: &str, capability: i32, options: &[String]) -> Result<String, String> {
    let library: &Library = Box::leak(Box::new(open()?));
    let mut options = options.to_vec();
    options.push(format!("--gpu-architecture=compute_{}", architecture(library, capability)?));
    options.push("--std=c++17".to_owned());
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

/// Loads the library. Also loads the built-ins that NVRTC opens by name when it compiles, because NVRTC itself does not
/// search this program's library path.
fn open() -> Result<Library, String> {
    // SAFETY: NVRTC only registers itself when it is loaded.
    let found = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
    let library = found.ok_or_else(|| format!("{} is not found", NAMES[0]))?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the signature matches nvrtc.h.
    unsafe {
        let version: Symbol<'_, Version> = symbol(&library, "nvrtcVersion")?;
        version(&raw mut major, &raw mut minor);
        if let Ok(built_in) = Library::new(format!("libnvrtc-builtins.so.{major}.{minor}")) {
            std::mem::forget(built_in);
        }
    }
    Ok(library)
}

/// Returns the newest architecture that NVRTC knows and a GPU of this compute capability runs.
fn architecture(library: &Library, capability: i32) -> Result<i32, String> {
    let mut count = 0;
    // SAFETY: the signatures match nvrtc.h, and the list has room for as many numbers as it asks for.
    unsafe {
        let number: Symbol<'_, Count> = symbol(library, "nvrtcGetNumSupportedArchs")?;
        number(&raw mut count);
        let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
        let list: Symbol<'_, Count> = symbol(library, "nvrtcGetSupportedArchs")?;
        list(known.as_mut_ptr());
        let newest = known.into_iter().filter(|known| *known <= capability).max();
        newest.ok_or_else(|| format!("this NVRTC does not know GPUs of compute capability {capability}"))
    }
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
    unsafe { library.get(name.as_bytes()) }.map_err(|error| format!("NVRTC lacks {name}: {error}"))
}
