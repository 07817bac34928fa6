//! Items on their way to the other end, as many in one message as fit.

/// Collects items until they fill a message.
#[derive(Debug)]
pub(super) struct Batch<T> {
    items: Vec<T>,
    bytes: usize,
}

/// The most bytes of items in one message, as their sender estimates them.
pub(super) const BATCH: usize = 12 << 10;

impl<T> Batch<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }

    /// Adds an item of about this size. Returns the items before it once they fill a message.
    pub(super) fn push(&mut self, item: T, bytes: usize) -> Option<Vec<T>> {
        let full = (self.bytes + bytes > BATCH && !self.items.is_empty()).then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.items)
        });
        self.bytes += bytes;
        self.items.push(item);
        full
    }

    /// The remaining items.
    pub(super) fn rest(self) -> Option<Vec<T>> {
        (!self.items.is_empty()).then_some(self.items)
    }
}
