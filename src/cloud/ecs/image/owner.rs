//! Who sees an image: everybody the system's, an account its own and those that others share with it.

use crate::cloud::ecs::image::blank::{BLANK, blank};
use crate::cloud::rows::Image;
use crate::cloud::store::World;

/// Whose an image is, for somebody who sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Everybody's.
    System,
    /// The account's own.
    Own,
    /// Another's, who shares it.
    Other,
}

impl Owner {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Own => "self",
            Self::Other => "others",
        }
    }
}

/// Whose an image of the table is; none for accounts that do not see it.
pub fn owner(image: &Image, account: &str) -> Option<Owner> {
    match () {
        () if image.account == account => Some(Owner::Own),
        () if image.shared_with.iter().any(|other| other == account) => Some(Owner::Other),
        () => None,
    }
}

/// An image that an account sees, and whose it is.
pub fn visible_image(world: &World, account: &str, id: &str) -> Option<(Image, Owner)> {
    if id == BLANK {
        return Some((blank(), Owner::System));
    }
    let image = world.images.get(id)?;
    Some((image.clone(), owner(image, account)?))
}

/// Whether a part of an image is encrypted.
pub fn is_encrypted(world: &World, image: &Image) -> bool {
    let snapshot = |id: &str| world.snapshots.get(id).is_some_and(|snapshot| snapshot.encrypted);
    image.devices.iter().any(|device| snapshot(&device.snapshot))
}
