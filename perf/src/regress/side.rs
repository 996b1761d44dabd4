//! The three sides of a comparison: BASE, HEAD, and BASE once more, so that what two equal sides differ by is known from the same minutes.
//!
//! Holds always: each side is a copy in a directory of its own with a name of the same length. Where a program lies in memory, and the length of its
//! path on the stack, can make a difference of some percent that is not the code's (T. Mytkowicz and others, "Producing Wrong Data Without
//! Doing Anything Obviously Wrong!", ASPLOS 2009); this way it is made anew for each run, for BASE's copy as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};
use crate::lab::{Choice, Lab};

/// MiB of each disk in memory: larger than the caches, small enough to be made many times.
pub const DISK_MIB: u64 = 128;
/// The program that is measured.
const STRONGROOM: &str = "strongroom";
/// The program that drives pools.
const DRIVER: &str = "strongroom-perf";
/// The part of the build that `--prove` has slowed down reads this (`src/disk/slowdown.rs`).
const SLOWDOWN: &str = "STRONGROOM_SLOWDOWN_NS";

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What is compared with.
    Base,
    /// What is judged.
    Head,
    /// BASE once more.
    Again,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Base, Self::Head, Self::Again];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "BASE",
            Self::Head => "HEAD",
            Self::Again => "BASE again",
        }
    }

    /// Four letters each.
    fn directory(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Head => "head",
            Self::Again => "copy",
        }
    }
}

/// A side.
pub struct Side {
    /// Where its servers have their files.
    pub lab: Lab,
    dir: PathBuf,
}

/// The sides of a run, and the directory in which they lie until this is dropped.
pub struct Sides {
    sides: [Side; 3],
    _dir: TempDir,
}

impl Sides {
    /// Copies the programs. `slowed` puts a wrapper before each that hands over what [`Side::slow`] sets.
    pub fn copy(base: &Path, head: &Path, slowed: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("strongroom-regress-").tempdir();
        let dir = dir.context(|| "cannot make a temporary directory".into())?;
        let side = |role: Role| -> Result<Side> {
            let from = if role == Role::Head { head } else { base };
            let to = dir.path().join(role.directory());
            fs::create_dir(&to).on_file("make", &to)?;
            for program in [STRONGROOM, DRIVER] {
                install(&from.join(program), &to.join(program), slowed)?;
            }
            let choice = Choice {
                strongroom: Some(to.join(STRONGROOM)),
                dir: to.clone(),
                seconds: 1,
                file_mib: 64,
                large_gib: 1,
            };
            let mut lab = Lab::open(choice)?;
            lab.memory_mib = DISK_MIB;
            let side = Side { lab, dir: to };
            side.slow(0.0)?;
            Ok(side)
        };
        let sides = [side(Role::Base)?, side(Role::Head)?, side(Role::Again)?];
        Ok(Self { sides, _dir: dir })
    }

    /// One of them.
    pub fn of(&self, role: Role) -> &Side {
        &self.sides[role as usize]
    }

    /// The program of HEAD, which is the client of all.
    pub fn client(&self) -> &Lab {
        &self.of(Role::Head).lab
    }
}

impl Side {
    /// The program.
    pub fn strongroom(&self) -> PathBuf {
        self.dir.join(STRONGROOM)
    }

    /// The program that drives pools.
    pub fn driver(&self) -> PathBuf {
        self.dir.join(DRIVER)
    }

    /// What its programs, if they are slowed, add to each command from their next start on.
    pub fn slow(&self, nanoseconds: f64) -> Result<()> {
        let path = self.dir.join("slowdown");
        fs::write(&path, format!("{nanoseconds:.4}\n")).on_file("write", &path)
    }
}

fn install(from: &Path, to: &Path, slowed: bool) -> Result<()> {
    let Err(error) = fs::copy(from, real(to, slowed)) else {
        return if slowed { wrap(to) } else { Ok(()) };
    };
    match error.kind() {
        std::io::ErrorKind::NotFound => Err(Failure::Missing {
            program: from.display().to_string(),
            remedy: "scripts/perf-regress builds it".into(),
        }),
        _ => Err(error).on_file("copy", from),
    }
}

fn real(program: &Path, slowed: bool) -> PathBuf {
    if slowed { program.with_extension("real") } else { program.to_owned() }
}

/// A program is replaced by a shell that sets the variable and becomes it.
fn wrap(program: &Path) -> Result<()> {
    let real = real(program, true);
    let slowdown = program.with_file_name("slowdown");
    let script = format!(
        "#!/bin/sh\nread -r {SLOWDOWN} <'{}'\nexport {SLOWDOWN}\nexec '{}' \"$@\"\n",
        slowdown.display(),
        real.display()
    );
    fs::write(program, script).on_file("write", program)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).on_file("make executable", program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn programs(dir: &Path, text: &str) {
        for name in [STRONGROOM, DRIVER] {
            let path = dir.join(name);
            fs::write(&path, format!("#!/bin/sh\necho {text} $STRONGROOM_SLOWDOWN_NS\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn each_side_has_its_own_programs_and_its_own_slowdown() {
        let (base, head) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        programs(base.path(), "base");
        programs(head.path(), "head");
        let sides = Sides::copy(base.path(), head.path(), true).unwrap();
        sides.of(Role::Head).slow(2.5).unwrap();
        let said = Role::ALL.map(|role| {
            let output = Command::new(sides.of(role).strongroom()).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        assert_eq!(said, ["base 0.0000\n", "head 2.5000\n", "base 0.0000\n"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let failure = Sides::copy(empty.path(), empty.path(), false).err().unwrap();
        assert!(failure.to_string().contains("strongroom is not installed"), "{failure}");
    }
}
