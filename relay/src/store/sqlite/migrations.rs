//! How the database came to be what it is: the statements of each version, in order.
//!
//! A version that was published is never changed: sqlx compares the hash of its statements with
//! what it has applied.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Number, name and statements of each version. They are listed by hand: sqlx's macro does that,
/// too, and compiles SQLite and sqlx a second time for the compiler's own use.
const VERSIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../../migrations/0001_first.sql")),
    (2, "claims", include_str!("../../../migrations/0002_claims.sql")),
    (3, "enrollments", include_str!("../../../migrations/0003_enrollments.sql")),
    (4, "answers", include_str!("../../../migrations/0004_answers.sql")),
];

/// Brings a database to the newest version.
pub(super) fn migrator() -> Migrator {
    let migration = |&(number, name, statements): &(i64, &'static str, &'static str)| {
        let name = Cow::Borrowed(name);
        Migration::new(number, name, MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(VERSIONS.iter().map(migration).collect())
}

/// The newest version.
pub(super) fn newest() -> Option<i64> {
    VERSIONS.iter().map(|&(number, ..)| number).max()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::VERSIONS;

    #[test]
    fn every_file_is_listed_with_its_number_and_name() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<_> =
            VERSIONS.iter().map(|(number, name, _)| format!("{number:04}_{name}.sql")).collect();
        assert_eq!(listed, files);
        for ((.., statements), file) in VERSIONS.iter().zip(&files) {
            assert_eq!(*statements, fs::read_to_string(directory.join(file)).unwrap(), "{file}");
        }
    }
}
