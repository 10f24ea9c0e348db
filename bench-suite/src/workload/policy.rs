//! From a policy's name to the type that stands for it.

/// The value of `$body` with the type alias `$P` for the policy that `$kind` names, as an `Option`:
/// `None` for a kind that this suite does not know.
macro_rules! with_policy {
    ($kind:expr, $P:ident => $body:expr) => {{
        use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, PolicyKind};
        macro_rules! with {
            ($policy:ty) => {{
                type $P = $policy;
                Some($body)
            }};
        }
        match $kind {
            PolicyKind::Immediate => with!(Immediate),
            PolicyKind::AfterRcuGp => with!(AfterRcuGp),
            PolicyKind::FreeAfterRcuGp => with!(FreeAfterRcuGp),
            PolicyKind::AfterTasksTraceGp => with!(AfterTasksTraceGp),
            _ => None,
        }
    }};
}

pub(crate) use with_policy;
