//! Parses one of a few names, as command lines and environment variables give them.

use std::fmt;

/// A text that is not one of the allowed names: the error of `FromStr` for
/// [`PolicyKind`](crate::PolicyKind), [`CpuMode`](crate::CpuMode) and
/// [`BarrierKind`](crate::rcu::BarrierKind).
///
/// ```
/// use memalloc::PolicyKind;
///
/// let error = "later".parse::<PolicyKind>().unwrap_err();
/// assert_eq!(error.name(), "later");
/// assert_eq!(
///     error.to_string(),
///     "unknown policy \"later\": allowed are immediate, after-rcu-gp, free-after-rcu-gp and \
///      after-tasks-trace-gp",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNameError {
    /// The kind of thing that the text should name.
    what: &'static str,
    name: String,
    /// The allowed names, as a list.
    allowed: String,
}

impl ParseNameError {
    /// The text that was to be parsed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} \"{}\": allowed are {}", self.what, self.name, self.allowed)
    }
}

impl std::error::Error for ParseNameError {}

/// Finds the element of `all` that prints `name`.
pub(crate) fn parse_name<T: Copy + fmt::Display>(
    what: &'static str,
    all: &[T],
    name: &str,
) -> Result<T, ParseNameError> {
    all.iter().copied().find(|value| value.to_string() == name).ok_or_else(|| {
        let mut allowed: Vec<_> = all.iter().map(T::to_string).collect();
        let last = allowed.pop().expect("something is allowed");
        let allowed = format!("{} and {last}", allowed.join(", "));
        ParseNameError { what, name: name.to_owned(), allowed }
    })
}
