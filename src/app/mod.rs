//! Joins the parts: builds them from the settings, runs them, stops them.

pub mod upstream;
