//! From the choice of a policy to the end of an allocator.
//!
//! [How an object lives]: crate#more
//! [How a lookup reads]: crate#more
//! [structures]: crate#more
//! [queue]: crate#more
//! [table]: crate#more
//! [hash table]: crate#more
//!
#![doc = include_str!("../docs/guide.md")]
