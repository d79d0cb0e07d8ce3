//! The verbs over a whole server: every kind lives and dies, and reads are as fresh as they say.

mod every_kind;
mod fences;
mod garbage;
mod reads;
mod scales;
