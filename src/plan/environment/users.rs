//! Who may log in to the UI: depends on the line and on the auth manager.

use super::{Resolver, Value, truth};
use crate::airflow::facts::{self, Login};
use crate::airflow::options;
use crate::airflow::table::Spec;
use crate::config::ConfigValue;
use crate::env;
use crate::keys;
use crate::plan::Goal;
use crate::settings::Settings;
use crate::settings::user::User;
use secrecy::ExposeSecret;
use std::path::PathBuf;

/// What the web role does about users.
#[derive(Clone, Debug)]
pub enum Users {
    /// Nobody is named: says so when there is none in the database.
    Unnamed,
    /// The simple auth manager has nobody: says so. Left alone, Airflow prints a password into its log.
    Nobody,
    /// The same where the list of users may not be empty: it has the name [`NOBODY`], and in this file no password
    /// opens it.
    Locked(PathBuf),
    /// Made in the database when it has nobody of that name.
    Fab(User),
    /// An administrator in the database, with a password of our making in this file: only on one machine.
    Kept(PathBuf),
    /// Written into the password file of the simple auth manager.
    Simple(User, PathBuf),
}

/// A user that cannot log in.
pub const NOBODY: &str = "nobody";

impl Resolver<'_> {
    pub(super) fn users(&mut self, goal: &Goal, spec: Option<&Spec>, settings: &Settings) {
        let Goal::Role { standalone, .. } = goal else { return };
        if goal.is_question() || !spec.is_some_and(|spec| spec.users) {
            return;
        }
        let user = settings.user.clone();
        if user.as_ref().is_some_and(User::is_well_known) && !standalone {
            let fix = "choose one that is not in a tutorial; only `standalone` takes this one";
            self.problem(env::WWW_USER_PASSWORD.name, "is a password that everybody tries first", fix);
        }
        let version = self.decided.version;
        let default = *facts::LOGIN.at(version);
        let manager = match self.external(&options::AUTH_MANAGER) {
            Some(ConfigValue::Value(class, _)) => class.expose_secret().to_owned(),
            _ if default == Login::Simple => "SimpleAuthManager".to_owned(),
            _ => "FabAuthManager".to_owned(),
        };
        self.decided.users = match user {
            _ if default == Login::Simple && manager.contains("SimpleAuthManager") => {
                return self.simple(user, settings);
            }
            _ if !manager.contains("FabAuthManager") => None,
            Some(user) => Some(Users::Fab(user)),
            None if self.decided.embedded => Some(Users::Kept(keys::folder(&settings.home).join("passwords.json"))),
            None => Some(Users::Unnamed),
        };
        if *facts::USERS_ARE_OPTIONAL.at(version) {
            let ours = settings.user.is_some().then(|| (truth(true), env::WWW_USER_USERNAME.name));
            self.decide(&options::RBAC, ours, self.decided.embedded.then(|| truth(true)));
            let on = self.decided.settings.iter().any(|setting| setting.name == "AIRFLOW__WEBSERVER__RBAC");
            let said = self.says_true(&options::RBAC);
            // Without it the UI has no login.
            self.decided.users = self.decided.users.take().filter(|_| on || said);
        }
    }

    /// From 3 on, without another auth manager: a list of names, and a file with their passwords.
    fn simple(&mut self, user: Option<User>, settings: &Settings) {
        let path = match self.external(&options::SIMPLE_AUTH_PASSWORDS) {
            Some(ConfigValue::Value(path, _)) => PathBuf::from(path.expose_secret()),
            _ => settings.home.join("simple_auth_manager_passwords.json.generated"),
        };
        let Some(user) = user else {
            let all = self.says_true(&options::SIMPLE_AUTH_ALL_ADMINS);
            if !self.decided.embedded && !all && self.external(&options::SIMPLE_AUTH_USERS).is_none() {
                let (list, users) = if *facts::LIST_MAY_BE_EMPTY.at(self.decided.version) {
                    (String::new(), Users::Nobody)
                } else {
                    (format!("{NOBODY}:viewer"), Users::Locked(path))
                };
                self.decide(&options::SIMPLE_AUTH_USERS, None, Some(Value::Public(list)));
                self.decided.users = Some(users);
            }
            return;
        };
        let role = user.role.to_lowercase();
        let list = Value::Public(format!("{}:{role}", user.name));
        self.decide(&options::SIMPLE_AUTH_USERS, Some((list, env::WWW_USER_USERNAME.name)), None);
        if !["viewer", "user", "op", "admin"].contains(&role.as_str()) {
            let fix = "write Viewer, User, Op or Admin, or choose the FAB auth manager";
            self.problem(env::WWW_USER_ROLE.name, "is no role of the simple auth manager", fix);
        }
        self.decided.users = Some(Users::Simple(user, path));
    }
}
