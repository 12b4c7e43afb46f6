//! The model: what machines, a server and the network between them do, question by question.

use super::*;
use crate::lease::{CONFIRM, KILL, POLL, RECONNECT, REPLY, VALID};
use std::collections::BTreeMap;

/// Milliseconds.
pub(super) type Time = u64;

pub(super) fn ms(duration: Duration) -> Time {
    u64::try_from(duration.as_millis()).unwrap()
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Look,
    Take,
    Read,
    Void(Stamp),
    Terminate(Holder),
    Raise(Stamp),
    Confirm,
    Bump,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    Look(Look),
    Yes(bool),
    Row(Row),
    Broken,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Asks(usize, u32, Ask),
    Serves { who: usize, turn: u32, session: u32, ask: Ask, sent: Time, back: Time },
    Hears { who: usize, turn: u32, sent: Time, said: Said },
    Fault(usize, Fault),
    Release(usize, u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Its clock, in thousandths of the true one.
    rate: u64,
    /// What was begun before a turn is forgotten.
    turn: u32,
    session: Option<u32>,
    frozen: Time,
    cut: Time,
    standby: Standby,
    asked: Option<Ask>,
    evicts: Option<Look>,
    waits: Option<Time>,
    row: Row,
    /// The epoch that it holds, and until when by its own clock its role may live.
    pub(super) holds: Option<Time>,
    /// When its role is gone by the true clock.
    dies: Time,
}

pub(super) struct World {
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
    pub(super) machines: Vec<Machine>,
    down: Time,
    sessions: BTreeMap<u32, Time>,
    lock: Option<u32>,
    row: Row,
    noise: Vec<u64>,
    pub(super) starts: Vec<Time>,
    polite: bool,
}

impl World {
    pub(super) fn new(noise: Vec<u64>, rates: [u64; 3], polite: bool) -> Self {
        let machine = |rate| Machine { rate, ..Machine::default() };
        let row = Row { released: true, ..Row::default() };
        let mut world = Self {
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            machines: rates.map(machine).to_vec(),
            down: 0,
            sessions: BTreeMap::new(),
            lock: None,
            row,
            noise,
            starts: Vec::new(),
            polite,
        };
        for who in 0..3 {
            world.begin(who, 0);
        }
        world
    }

    pub(super) fn at(&mut self, when: Time, event: Event) {
        self.count += 1;
        self.events.insert((when.max(self.now), self.count), event);
    }

    fn random(&mut self, below: u64) -> u64 {
        self.count += 1;
        let at = usize::try_from(self.count).unwrap() % self.noise.len();
        self.noise[at].wrapping_mul(self.count | 1) % below
    }

    fn local(&self, who: usize) -> Time {
        self.now * self.machines[who].rate / 1000
    }

    /// A new guard, after a while.
    fn begin(&mut self, who: usize, after: Time) {
        let (rate, turn) = (self.machines[who].rate, self.machines[who].turn + 1);
        let old = std::mem::take(&mut self.machines[who]);
        self.machines[who] = Machine { rate, turn, frozen: old.frozen, cut: old.cut, dies: old.dies, ..old.fresh() };
        self.at(self.now + after, Event::Asks(who, turn, Ask::Look));
    }

    fn end_session(&mut self, session: u32) {
        self.sessions.remove(&session);
        self.lock = self.lock.filter(|holder| *holder != session);
    }

    pub(super) fn run(&mut self, until: Time) {
        while let Some(((when, _), event)) = self.events.pop_first() {
            if when > until {
                return;
            }
            self.now = when;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault(who, fault) => self.fault(who, fault),
            Event::Asks(who, turn, ask) if self.machines[who].turn == turn => self.asks(who, turn, ask),
            Event::Serves { who, turn, session, ask, sent, back } => {
                if self.now < self.down || !self.sessions.contains_key(&session) {
                    return self.at(self.now + 1, Event::Hears { who, turn, sent, said: Said::Broken });
                }
                let said = self.serve(session, &ask);
                if self.machines[who].cut <= self.now {
                    self.at(self.now + back, Event::Hears { who, turn, sent, said });
                }
            }
            Event::Hears { who, turn, sent, said } if self.machines[who].turn == turn => {
                let machine = &self.machines[who];
                if machine.frozen > self.now {
                    return self.at(machine.frozen, Event::Hears { who, turn, sent, said });
                }
                self.machines[who].turn += 1;
                self.hears(who, sent, said);
            }
            Event::Release(who, turn) if self.machines[who].turn == turn => {
                if let Some(session) = self.machines[who].session.filter(|session| self.lock == Some(*session)) {
                    self.row.released = true;
                    self.end_session(session);
                }
                self.begin(who, 500);
            }
            _ => {}
        }
    }

    fn fault(&mut self, who: usize, fault: Fault) {
        match fault {
            Fault::Kill => {
                if let Some(session) = self.machines[who].session.filter(|_| self.machines[who].cut <= self.now) {
                    self.end_session(session);
                }
                self.fence(who);
            }
            Fault::Freeze(long) => self.machines[who].frozen = self.now + long,
            Fault::Cut(long) => self.machines[who].cut = self.now + long,
            Fault::Restart(long) => {
                self.down = self.now + long;
                self.sessions.clear();
                self.lock = None;
            }
            Fault::Release => {
                // The role is gone before it is given back.
                if self.machines[who].frozen <= self.now && self.machines[who].holds.take().is_some() {
                    self.machines[who].dies = self.now;
                    self.machines[who].turn += 1;
                    let turn = self.machines[who].turn;
                    self.at(self.now + 5, Event::Release(who, turn));
                }
            }
        }
    }

    /// PID 1 ends the role now, and begins anew.
    fn fence(&mut self, who: usize) {
        let dies = self.machines[who].dies;
        self.machines[who].dies = dies.min(self.now + ms(KILL));
        self.machines[who].holds = None;
        self.begin(who, 600);
    }

    fn asks(&mut self, who: usize, turn: u32, ask: Ask) {
        let frozen = self.machines[who].frozen;
        if frozen > self.now {
            return self.at(frozen, Event::Asks(who, turn, ask));
        }
        // PID 1 does not wait for a guard that is late.
        if self.machines[who].holds.is_some_and(|until| self.local(who) >= until) {
            self.machines[who].holds = None;
            return self.begin(who, 600);
        }
        let sent = self.local(who);
        let cut = self.machines[who].cut > self.now;
        let session = match self.machines[who].session {
            Some(session) => session,
            None if cut || self.down > self.now => {
                let pause = if cut { ms(REPLY) } else { 1 };
                return self.at(self.now + pause, Event::Hears { who, turn, sent, said: Said::Broken });
            }
            None => {
                self.count += 1;
                let session = u32::try_from(self.count).unwrap();
                self.sessions.insert(session, self.now);
                self.machines[who].session = Some(session);
                session
            }
        };
        self.machines[who].asked = Some(ask.clone());
        let slow = self.random(12) == 0;
        let [there, back] = [(); 2].map(|()| self.random(if slow { 450 } else { 8 }));
        // No answer is an answer, after a while.
        self.at(self.now + ms(REPLY), Event::Hears { who, turn, sent, said: Said::Broken });
        if !cut {
            self.at(self.now + there, Event::Serves { who, turn, session, ask, sent, back });
        }
    }

    fn holder(&self) -> Option<Holder> {
        let session = self.lock?;
        let changed = self.sessions[&session];
        let silent = Duration::from_millis(self.now - changed);
        Some(Holder { backend: session.cast_signed(), silent, changed: changed.to_string() })
    }

    fn serve(&mut self, session: u32, ask: &Ask) -> Said {
        let said = match ask {
            Ask::Look => Said::Look(Look { row: self.row.clone(), holder: self.holder() }),
            Ask::Take => Said::Yes(*self.lock.get_or_insert(session) == session),
            Ask::Void(stamp) if self.row.stamp() == *stamp => {
                let barred = self.row.barred;
                self.row = Row { epoch: self.row.epoch + 1, barred, ..Row::default() };
                Said::Row(self.row.clone())
            }
            Ask::Raise(stamp) if self.row.stamp() == *stamp => {
                let epoch = self.row.epoch + 1;
                self.row = Row { epoch, token: session.to_string(), taken: 1, ..Row::default() };
                Said::Row(self.row.clone())
            }
            Ask::Void(_) | Ask::Raise(_) => Said::Yes(false),
            Ask::Terminate(holder) => {
                let there = self.holder();
                let silent = there.as_ref().is_some_and(|there| there.changed == holder.changed);
                if there.is_some_and(|there| there.backend == holder.backend) {
                    self.end_session(holder.backend.cast_unsigned());
                }
                Said::Yes(silent)
            }
            Ask::Read | Ask::Confirm => Said::Row(self.row.clone()),
            Ask::Bump => {
                self.row.taken += 1;
                Said::Row(self.row.clone())
            }
        };
        if let Some(changed) = self.sessions.get_mut(&session) {
            *changed = self.now;
        }
        said
    }

    fn next(&mut self, who: usize, after: Duration, ask: Ask) {
        let turn = self.machines[who].turn;
        self.at(self.now + ms(after), Event::Asks(who, turn, ask));
    }

    fn hears(&mut self, who: usize, sent: Time, said: Said) {
        let local = self.local(who);
        let holds = self.machines[who].holds;
        if holds.is_some_and(|until| local >= until) {
            // PID 1 has ended the role.
            if let Some(session) = self.machines[who].session {
                self.end_session(session);
            }
            return self.begin(who, 600);
        }
        let asked = self.machines[who].asked.take();
        let broken = matches!(said, Said::Broken);
        if broken {
            self.machines[who].session = None;
            // A socket that is closed reaches the server unless the network is cut.
            return if holds.is_some() { self.next(who, RECONNECT, Ask::Take) } else { self.begin_anew(who) };
        }
        match (asked, said) {
            (Some(Ask::Look), Said::Look(look)) => {
                let now = Duration::from_millis(local);
                let next = self.machines[who].standby.looked(&look, now);
                let rude = !self.polite && look.holder.is_none();
                match if rude { Next::Take } else { next } {
                    Next::Look => self.next(who, POLL, Ask::Look),
                    Next::Take => self.next(who, Duration::ZERO, Ask::Take),
                    Next::End => {
                        self.machines[who].evicts = None;
                        self.next(who, Duration::ZERO, Ask::Terminate(look.holder.unwrap()));
                    }
                    Next::Evict => {
                        let stamp = look.row.stamp();
                        self.machines[who].evicts = Some(look);
                        self.next(who, Duration::ZERO, Ask::Void(stamp));
                    }
                }
            }
            (Some(Ask::Void(_)), Said::Row(row)) => {
                self.machines[who].row = row;
                let holder = self.machines[who].evicts.clone().unwrap().holder.unwrap();
                self.next(who, Duration::ZERO, Ask::Terminate(holder));
            }
            (Some(Ask::Terminate(_)), Said::Yes(silent)) => {
                if self.machines[who].evicts.is_some() {
                    let row = self.machines[who].row.clone();
                    self.machines[who].standby.evicted(&row, silent);
                }
                self.next(who, Duration::ZERO, Ask::Look);
            }
            (Some(Ask::Take), Said::Yes(true)) => {
                self.next(who, Duration::ZERO, if holds.is_some() { Ask::Bump } else { Ask::Read });
            }
            (Some(Ask::Take), Said::Yes(false)) if holds.is_some() => self.fence(who),
            (Some(Ask::Read), Said::Row(row)) => {
                let now = Duration::from_millis(local);
                let first = self.machines[who].waits.is_none();
                let wait = self.machines[who].standby.took(&row, now);
                let wait = if self.polite || !first { wait } else { Duration::ZERO };
                let until = *self.machines[who].waits.get_or_insert(local + ms(wait));
                if local >= until {
                    self.next(who, Duration::ZERO, Ask::Raise(row.stamp()));
                } else {
                    self.next(who, CONFIRM, Ask::Read);
                }
            }
            (Some(Ask::Raise(_)), Said::Row(row)) => {
                self.machines[who].row = row;
                self.next(who, Duration::ZERO, Ask::Confirm);
            }
            (Some(Ask::Confirm | Ask::Bump), Said::Row(row)) => {
                let own = self.machines[who].row.clone();
                if (row.epoch, &row.token) != (own.epoch, &own.token) {
                    return if holds.is_some() { self.fence(who) } else { self.begin_anew(who) };
                }
                let until = sent + ms(VALID);
                if local >= until {
                    // PID 1 looks at its clock before it lets a role start.
                    return self.fence(who);
                }
                if holds.is_none() {
                    for (other, machine) in self.machines.iter().enumerate() {
                        assert!(other == who || machine.dies <= self.now, "two roles at {} ms", self.now);
                    }
                    self.starts.push(self.now);
                }
                self.machines[who].holds = Some(until);
                self.machines[who].dies = until * 1000 / self.machines[who].rate + ms(KILL);
                self.next(who, CONFIRM, Ask::Confirm);
            }
            // Somebody has made the row void meanwhile: it is read again, under the lock that is still ours.
            (Some(Ask::Raise(_)), Said::Yes(_)) => {
                self.machines[who].waits = None;
                self.next(who, Duration::ZERO, Ask::Read);
            }
            // Somebody was faster.
            _ => self.begin_anew(who),
        }
    }

    /// The same guard, which keeps what it knows, and no session that might have the lock.
    fn begin_anew(&mut self, who: usize) {
        if let Some(session) = self.machines[who].session.take() {
            self.end_session(session);
        }
        self.machines[who].waits = None;
        self.next(who, POLL, Ask::Look);
    }
}

impl Machine {
    fn fresh(self) -> Self {
        Self { session: None, standby: Standby::default(), asked: None, evicts: None, waits: None, holds: None, ..self }
    }
}
