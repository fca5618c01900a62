//! The environment variables that `huggingface_hub` reads, in its order of precedence. An empty variable counts
//! as unset.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The lookup of an environment variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable of the user's home folder.
const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// Returns the folder of the cache: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in the folder of
/// Hugging Face.
pub fn cache() -> &'static Path {
    static CACHE: LazyLock<PathBuf> = LazyLock::new(|| cache_in(&variable));
    &CACHE
}

/// Returns `HF_TOKEN`, else `HUGGING_FACE_HUB_TOKEN`, else the token that `hf auth login` stored.
pub fn token() -> Option<String> {
    token_in(&variable)
}

/// Returns the address of the Hub: `HF_ENDPOINT`, else `https://huggingface.co`.
pub fn endpoint() -> String {
    let given = set(&variable, "HF_ENDPOINT");
    given.unwrap_or_else(|| "https://huggingface.co".to_owned()).trim_end_matches('/').to_owned()
}

/// Returns the name of the variable that forbids requests, if one does: `HF_HUB_OFFLINE`, or
/// `TRANSFORMERS_OFFLINE` if that is unset.
pub fn offline() -> Option<&'static str> {
    offline_in(&variable)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns a variable, unless it is empty.
fn set(get: Lookup<'_>, name: &str) -> Option<String> {
    get(name).filter(|value| !value.trim().is_empty())
}

fn offline_in(get: Lookup<'_>) -> Option<&'static str> {
    let given = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| set(get, name).is_some());
    given.filter(|name| {
        get(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
    })
}

fn cache_in(get: Lookup<'_>) -> PathBuf {
    let given = set(get, "HF_HUB_CACHE").or_else(|| set(get, "HUGGINGFACE_HUB_CACHE"));
    given.map_or_else(|| home_in(get).join("hub"), |given| expanded(&given, get))
}

fn token_in(get: Lookup<'_>) -> Option<String> {
    let stored = || {
        let given = set(get, "HF_TOKEN_PATH").map(|given| expanded(&given, get));
        fs::read_to_string(given.unwrap_or_else(|| home_in(get).join("token"))).ok()
    };
    let token = set(get, "HF_TOKEN").or_else(|| set(get, "HUGGING_FACE_HUB_TOKEN")).or_else(stored)?;
    let token = token.replace(['\r', '\n'], "").trim().to_owned();
    (!token.is_empty()).then_some(token)
}

/// Returns the folder of Hugging Face: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME`, else in `~/.cache`.
fn home_in(get: Lookup<'_>) -> PathBuf {
    match set(get, "HF_HOME") {
        Some(given) => expanded(&given, get),
        None => {
            let caches = set(get, "XDG_CACHE_HOME").unwrap_or_else(|| "~/.cache".to_owned());
            expanded(&caches, get).join("huggingface")
        }
    }
}

/// Replaces `~` at the beginning by the user's home folder, and then `$NAME` and `${NAME}` by their values; what
/// is unset stays as it is.
fn expanded(text: &str, get: Lookup<'_>) -> PathBuf {
    let tail = text.strip_prefix('~').filter(|tail| tail.is_empty() || tail.starts_with(['/', '\\']));
    let text = match (tail, set(get, HOME).map(PathBuf::from).or_else(dirs::home_dir)) {
        (Some(tail), Some(home)) => format!("{}{tail}", home.display()),
        _ => text.to_owned(),
    };
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{') {
            Some(braced) => braced.find('}').map_or(("", 0), |end| (&braced[..end], end + 2)),
            None => {
                let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !inside(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let value = Some(name).filter(|name| !name.is_empty()).and_then(get);
        out.push_str(&rest[..at]);
        out.push_str(value.as_deref().unwrap_or(&rest[at..=at + length]));
        rest = &after[length..];
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a function in an environment of these variables and a home folder.
    fn with<T>(variables: &[(&str, &str)], run: impl Fn(Lookup<'_>) -> T) -> T {
        let all: Vec<(&str, &str)> = variables.iter().copied().chain([(HOME, "/home/me")]).collect();
        run(&|name| all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    /// Protects: the cache is the folder that huggingface_hub computes from the same variables.
    #[test]
    fn the_cache_is_that_of_huggingface_hub() {
        for (variables, folder) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "~/c")], "/home/me/c/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/xdg"), ("HF_HOME", "~/hf")], "/home/me/hf/hub"),
            (&[("HF_HOME", "$DISK/hf"), ("DISK", "/scratch")], "/scratch/hf/hub"),
            (&[("HF_HOME", "${DISK}s/$NONE/${hf"), ("DISK", "/scratch")], "/scratchs/$NONE/${hf/hub"),
            (&[("HF_HOME", "~you/$"), ("DISK", "/scratch")], "~you/$/hub"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "~/old")], "/home/me/old"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "~/new")], "/home/me/new"),
            (&[("HF_HUB_CACHE", " "), ("HF_HOME", "")], "/home/me/.cache/huggingface/hub"),
        ] {
            assert_eq!(with(variables, cache_in), Path::new(folder), "{variables:?}");
        }
    }

    /// Protects: HF_TOKEN takes precedence over the older variable, and both over the stored token.
    #[test]
    fn the_token_is_that_of_huggingface_hub() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "hf_stored\n").unwrap();
        fs::write(folder.path().join("mine"), " hf_mine\r\n").unwrap();
        let mine = format!("{place}/mine");
        let (home, path) = (("HF_HOME", place), ("HF_TOKEN_PATH", mine.as_str()));
        let (new, old) = (("HF_TOKEN", "hf_new\n"), ("HUGGING_FACE_HUB_TOKEN", "hf_old"));
        for (variables, token) in [
            (&[new, old, home, path][..], Some("hf_new")),
            (&[("HF_TOKEN", ""), old, home, path], Some("hf_old")),
            (&[home, path], Some("hf_mine")),
            (&[home, ("HF_TOKEN_PATH", "$HF_HOME/token")], Some("hf_stored")),
            (&[home], Some("hf_stored")),
            (&[("HF_HOME", "/nowhere")], None),
        ] {
            assert_eq!(with(variables, token_in).as_deref(), token, "{variables:?}");
        }
    }

    /// Protects: HF_HUB_OFFLINE decides if it is set, else TRANSFORMERS_OFFLINE.
    #[test]
    fn requests_are_forbidden_as_in_huggingface_hub() {
        let (hub, transformers) = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE");
        for (variables, named) in [
            (&[][..], None),
            (&[(hub, "1")], Some(hub)),
            (&[(hub, "on")], Some(hub)),
            (&[(hub, "0")], None),
            (&[(transformers, "True")], Some(transformers)),
            (&[(hub, "0"), (transformers, "1")], None),
            (&[(hub, ""), (transformers, "yes")], Some(transformers)),
        ] {
            assert_eq!(with(variables, offline_in), named, "{variables:?}");
        }
    }
}
