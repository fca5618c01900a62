//! ONNX Runtime, a shared library that is loaded on first use.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;
use pcrm_core::{Error, Result};

/// The variable that names the library's file; if set, no other place is searched.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Returns the process-wide environment of the library, loading it on the first call.
///
/// Search order: the file that `ORT_DYLIB_PATH` names, and then nothing else; beside the running binary and
/// in a folder `onnxruntime` there; in the folder that `scripts/onnxruntime` fills, in the source tree; in
/// the system's library paths.
///
/// # Errors
/// Fails if no library is found or none is new enough; the error lists the places and ways to get one.
pub fn environment() -> Result<&'static Environment> {
    static OPENED: OnceLock<Result<Environment, String>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => open(&[PathBuf::from(path)]),
        None => open(&places()),
    });
    opened.as_ref().map_err(|message| Error::Unsupported(message.clone()))
}

fn open(places: &[PathBuf]) -> Result<Environment, String> {
    let mut tried = Vec::new();
    for place in places {
        // A bare name is resolved by the system's loader, so there is no file to check.
        if place.components().count() > 1 && !place.is_file() {
            tried.push(format!("{}: no such file", place.display()));
            continue;
        }
        let built = match ort::init_from(place) {
            Ok(builder) => builder.with_name("pcrm").with_telemetry(false).build(),
            Err(error) => {
                tried.push(format!("{}: {}", place.display(), reason(place, &error)));
                continue;
            }
        };
        let environment = built.map_err(|error| format!("{}: {error}", place.display()))?;
        // Problems that matter are returned as errors.
        environment.set_log_level(LogLevel::Fatal);
        return Ok(environment);
    }
    Err(format!(
        "ONNX Runtime was not found: {}; `scripts/onnxruntime` of the project fetches it from PyPI, or set \
         {VARIABLE} to the {DLL_PREFIX}onnxruntime{DLL_SUFFIX} of release 1.{} or later",
        tried.join("; "),
        ort::MINOR_VERSION
    ))
}

/// Returns the loader's own message, which begins with the path.
fn reason(place: &Path, error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => {
            let said =
                std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            said.strip_prefix(&format!("{}: ", place.display())).unwrap_or(&said).to_owned()
        }
        ort::LoadDynamicError::MissingApi { .. } => "is another library".to_owned(),
        ort::LoadDynamicError::BadVersion { version_str, .. } => format!("is release {version_str}"),
        other => other.to_string(),
    }
}

fn places() -> Vec<PathBuf> {
    let file = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let mut places = Vec::new();
    if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(beside.join(&file));
        places.push(beside.join("onnxruntime").join(&file));
    }
    if let Some(project) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() {
        places.push(project.join("onnxruntime").join(&file));
    }
    places.push(PathBuf::from(&file));
    if cfg!(target_os = "linux") {
        places.push(PathBuf::from(format!("{file}.1")));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a library that is missing, invalid or of the wrong version is reported with the searched
    /// places and the remedy; nothing panics.
    #[test]
    fn a_missing_library_is_reported() {
        // A process loads the library once, and other tests may have: this one runs in a process of its own.
        const ALONE: &str = "PCRM_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let own = std::thread::current().name().unwrap().to_owned();
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", &own, "--nocapture"]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (absent, garbage) = (folder.path().join("absent.so"), folder.path().join("garbage.so"));
        std::fs::write(&garbage, "not a library").unwrap();
        let message =
            open(&[absent.clone(), garbage.clone(), PathBuf::from("libno-such-library.so.9")]).unwrap_err();
        for part in [
            format!("{}: no such file; ", absent.display()),
            format!("{}: ", garbage.display()),
            "libno-such-library.so.9: ".to_owned(),
            "scripts/onnxruntime".to_owned(),
            "ORT_DYLIB_PATH".to_owned(),
        ] {
            assert!(message.contains(&part), "{part:?} in {message:?}");
        }
    }
}
