//! Report pages: one HTML file that opens anywhere, offline, in light and dark, on a phone.
//!
//! A caller fills a [`Document`] with sections of figures, facts, notes, tables and [plots](plot), and
//! [`render()`]s it; it needs no drawing code or HTML.

pub mod document;
mod draw;
pub mod number;
mod page;
pub mod plot;

pub use document::{Document, Fact};
pub use number::{count, number, percent};
pub use page::render;
