//! The user that the web role makes, as the official image's variables describe it.

use super::reader::Reader;
use crate::env;
use secrecy::SecretString;

/// A user with a password.
#[derive(Clone, Debug)]
pub struct User {
    /// Login.
    pub name: String,
    /// Password.
    pub password: SecretString,
    /// First name.
    pub first: String,
    /// Last name.
    pub last: String,
    /// Mail address.
    pub email: String,
    /// Role, as FAB calls it.
    pub role: String,
}

impl User {
    /// An administrator with the names that the official image gives.
    pub fn admin(password: SecretString) -> Self {
        Self {
            name: "admin".to_owned(),
            password,
            first: "Airflow".to_owned(),
            last: "Admin".to_owned(),
            email: "airflowadmin@example.com".to_owned(),
            role: "Admin".to_owned(),
        }
    }

    /// Whether everybody knows this password: that of a tutorial, or the name itself.
    pub fn is_well_known(&self) -> bool {
        let password = secrecy::ExposeSecret::expose_secret(&self.password);
        password == self.name || ["admin", "airflow"].contains(&password)
    }
}

pub(super) fn user(r: &mut Reader<'_>) -> Option<User> {
    let create = r.switch(&env::WWW_USER_CREATE);
    let name = r.text(&env::WWW_USER_USERNAME);
    let password = r.secret(&env::WWW_USER_PASSWORD);
    if r.is_set(&env::WWW_USER_PASSWORD_CMD) {
        let fix = "put the password into a file and name it in _AIRFLOW_WWW_USER_PASSWORD_FILE";
        r.problem(&env::WWW_USER_PASSWORD_CMD, "wants a shell, and there is none here", fix);
    }
    let first = r.text(&env::WWW_USER_FIRSTNAME);
    let last = r.text(&env::WWW_USER_LASTNAME);
    let email = r.text(&env::WWW_USER_EMAIL);
    let role = r.text(&env::WWW_USER_ROLE);
    let wanted = create.unwrap_or(name.is_some() || password.is_some());
    if !wanted || r.failed(&env::WWW_USER_PASSWORD) {
        return None;
    }
    let Some(password) = password else {
        let fix = "set it or _AIRFLOW_WWW_USER_PASSWORD_FILE, or make the user by hand and unset the others";
        r.problem(&env::WWW_USER_PASSWORD, "is not set, and a user is to be made", fix);
        return None;
    };
    // A list and a file with names hold it, and Airflow's command line takes a dash for an option.
    if name.as_ref().is_some_and(|name| name.contains([',', ':', '\n']) || name.starts_with('-')) {
        r.problem(&env::WWW_USER_USERNAME, "is no user name", "write it without `,` and `:`, and no `-` in front");
        return None;
    }
    let admin = User::admin(password);
    Some(User {
        name: name.unwrap_or(admin.name),
        first: first.unwrap_or(admin.first),
        last: last.unwrap_or(admin.last),
        email: email.unwrap_or(admin.email),
        role: role.unwrap_or(admin.role),
        password: admin.password,
    })
}
