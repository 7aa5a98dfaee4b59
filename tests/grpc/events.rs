//! EventService
