//! Thread-local variables of shuttle's threads.
//!
//! shuttle destroys all of a thread's variables at its end. std does not destroy those that have
//! nothing to drop, and the libraries use such variables in the destructors of others. So a
//! destroyed variable here has its first value again, at every use.

use shuttle::thread::{AccessError, LocalKey};

/// As std's, with the methods that the libraries need.
#[derive(Debug)]
pub struct TaskKey<T: 'static> {
    key: &'static LocalKey<T>,
    first: fn() -> T,
}

impl<T> TaskKey<T> {
    /// Wraps a key whose variables begin with the value of `first`.
    pub const fn new(key: &'static LocalKey<T>, first: fn() -> T) -> Self {
        Self { key, first }
    }

    /// As std's, but also works when the variable has been destroyed.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let mut f = Some(f);
        let mut once = |value: &T| f.take().map(|f| f(value));
        let there = self.key.try_with(&mut once);
        let result = there.unwrap_or_else(|_| once(&(self.first)()));
        result.expect("called once")
    }

    /// As std's.
    ///
    /// # Errors
    ///
    /// As std's, if the variable has been destroyed.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.key.try_with(f)
    }
}

/// As std's.
#[doc(hidden)]
#[macro_export]
macro_rules! task_local {
    ($($(#[$attr:meta])* $visible:vis static $name:ident: $type:ty = $first:expr);+ $(;)?) => {
        $(
            $(#[$attr])*
            $visible static $name: $crate::sync::TaskKey<$type> = {
                $crate::sync::shuttle_local! { static KEY: $type = $first }
                $crate::sync::TaskKey::new(&KEY, || $first)
            };
        )+
    };
}
