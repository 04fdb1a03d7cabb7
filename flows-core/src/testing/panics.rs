//! Panics that a property asks for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether `call` panics.
///
/// Its message is not printed: dozens of panics that had to happen would bury the one line that
/// says what failed. Panics elsewhere, on this thread and on others, are printed as ever.
pub(super) fn panics<T>(call: impl FnOnce() -> T) -> bool {
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
    let panicked = catch_unwind(AssertUnwindSafe(call)).is_err();
    EXPECTED.set(false);
    panicked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen_and_ends_with_the_call() {
        assert!(panics(|| panic!("asked for")));
        assert!(!panics(|| 1));
        assert!(!EXPECTED.get());
    }
}
