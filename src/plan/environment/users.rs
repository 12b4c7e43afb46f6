//! Who may log in to the UI: depends on the line and on the auth manager.

use super::{Maker, Value, truth};
use crate::airflow::options;
use crate::airflow::role::Role;
use crate::airflow::version::Line;
use crate::config::Told;
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
    /// Made in the database when it has nobody of that name.
    Fab(User),
    /// An administrator in the database, with a password of our making in this file: only on one machine.
    Kept(PathBuf),
    /// Written into the password file of the simple auth manager.
    Simple(User, PathBuf),
}

impl Maker<'_> {
    pub(super) fn users(&mut self, goal: &Goal, settings: &Settings) {
        let Goal::Role { role: Role::Web, standalone, .. } = goal else { return };
        if goal.is_question() {
            return;
        }
        let user = settings.user.clone();
        if user.as_ref().is_some_and(User::is_well_known) && !standalone {
            let fix = "choose one that is not in a tutorial; only `standalone` takes this one";
            self.problem(env::WWW_USER_PASSWORD.name, "is a password that everybody tries first", fix);
        }
        let line = self.made.version.line();
        let manager = match self.said(&options::AUTH_MANAGER) {
            Some(Told::Value(class, _)) => class.expose_secret().to_owned(),
            _ if line >= Line::V3 => "SimpleAuthManager".to_owned(),
            _ => "FabAuthManager".to_owned(),
        };
        self.made.users = match user {
            _ if line >= Line::V3 && manager.contains("SimpleAuthManager") => return self.simple(user, settings),
            _ if !manager.contains("FabAuthManager") => None,
            Some(user) => Some(Users::Fab(user)),
            None if self.made.embedded => Some(Users::Kept(keys::folder(&settings.home).join("passwords.json"))),
            None => Some(Users::Unnamed),
        };
        if line == Line::V1 {
            let ours = settings.user.is_some().then(|| (truth(true), env::WWW_USER_USERNAME.name));
            self.decide(&options::RBAC, ours, self.made.embedded.then(|| truth(true)));
            let on = self.made.settings.iter().any(|setting| setting.name == "AIRFLOW__WEBSERVER__RBAC");
            let said = matches!(self.said(&options::RBAC), Some(Told::Value(text, _)) if text.expose_secret().eq_ignore_ascii_case("true"));
            // Without it the UI has no login.
            self.made.users = self.made.users.take().filter(|_| on || said);
        }
    }

    /// From 3 on, without another auth manager: a list of names, and a file with their passwords.
    fn simple(&mut self, user: Option<User>, settings: &Settings) {
        let Some(user) = user else {
            let all = matches!(self.said(&options::SIMPLE_AUTH_ALL_ADMINS), Some(Told::Value(on, _)) if on.expose_secret().eq_ignore_ascii_case("true"));
            if !self.made.embedded && !all && self.said(&options::SIMPLE_AUTH_USERS).is_none() {
                self.decide(&options::SIMPLE_AUTH_USERS, None, Some(Value::Public(String::new())));
                self.made.users = Some(Users::Nobody);
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
        let path = match self.said(&options::SIMPLE_AUTH_PASSWORDS) {
            Some(Told::Value(path, _)) => PathBuf::from(path.expose_secret()),
            _ => settings.home.join("simple_auth_manager_passwords.json.generated"),
        };
        self.made.users = Some(Users::Simple(user, path));
    }
}
