//! Lookups and scans.
//!
//! Knows how to walk and what to check before a step is trusted; changes nothing.
//!
//! The protocol for a branch that may be reused at any moment (`docs/lookup.md` explains it from
//! end to end):
//!
//! ```text
//!  at branch p, reached through slot S of branch Q whose validated count is sQ
//!    1  s := p.count                    odd: p is unlinked, start again
//!    2  S still names p?                no: start again
//!    3  Q.count still sQ?               no: Q is unlinked, so S proves nothing: start again
//!    4  read the header: the key's slot, if it has one
//!    5  p.count still s?                no: start again; the slot may be anywhere
//!    6  read the twig in the slot
//!    7  p.count still s?                no: start again
//!    8  now step down, read a leaf, or trust "absent" if the slot is empty, or if the twig has the
//!       tag of another key (QPT-N10)
//! ```
//!
//! - QPT-V1: after step 3, `p` was linked at a moment between step 1 and step 3.
//! - QPT-V2: after step 5, `p` was linked, and the header belonged to it, at every moment between
//!   step 1 and step 4; so an answer that the key has no slot is valid. After step 7 the same is
//!   true of the twig, until step 6.
//! - QPT-V3: a key that is in the trie throughout is below every branch that a lookup of it has
//!   validly reached: a branch moves only by being copied, and a copy leaves the original unlinked.

mod branch_view;
mod direction;
mod fetch;
mod hinted;
mod leaf_view;
mod lookup;
mod scan;

pub(crate) use branch_view::{LinkedBranch, follow};
pub(crate) use direction::{Ascending, Descending, Direction};
pub(crate) use hinted::{find_hinted, find_hinted_copied, move_hints};
pub(crate) use leaf_view::{LeafAt, LinkedLeaf};
pub(crate) use lookup::{find, find_copied, find_each, find_each_copied};
pub(crate) use scan::{Walk, longest_prefix};
