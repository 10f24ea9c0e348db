//! Maps a policy's name to its type.

/// Evaluates `$body` with the type alias `$P` for the policy that `$kind` names. Returns an
/// `Option`: `None` for a kind that this suite does not support.
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
