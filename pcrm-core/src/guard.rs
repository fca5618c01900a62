//! Conversion of panics in libraries that panic on some damaged files into errors, without a trace on the
//! terminal.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns the result of a closure, or the message of its panic.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(before);
    result.map_err(|payload| {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        said.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it cannot be decoded").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a panic becomes a message; later panics outside are not caught.
    #[test]
    fn panics_become_messages() {
        assert_eq!(guarded(|| 3), Ok(3));
        assert_eq!(guarded(|| -> u8 { panic!("at byte {}", 7) }), Err("at byte 7".to_owned()));
        assert!(!GUARDED.get());
    }
}
