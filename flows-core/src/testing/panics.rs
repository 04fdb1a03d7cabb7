//! Panics that a property asks for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// The message with which `call` panics, if it does.
///
/// Its message is not printed: dozens of panics that had to happen would bury the one line that
/// says what failed. Panics elsewhere, on this thread and on others, are printed as ever.
pub(super) fn panic_message<T>(call: impl FnOnce() -> T) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let printed = take_hook();
        set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                printed(info);
            }
        }));
    });
    EXPECTED.set(true);
    let ended = catch_unwind(AssertUnwindSafe(call));
    EXPECTED.set(false);
    let payload = ended.err()?;
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    Some(text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen_and_ends_with_the_call() {
        let message = |call: fn()| panic_message(call);
        assert_eq!(message(|| panic!("asked for")).unwrap(), "asked for");
        assert_eq!(message(|| panic!("for {}", 1)).unwrap(), "for 1");
        assert_eq!(message(|| ()), None);
        assert!(!EXPECTED.get());
    }
}
