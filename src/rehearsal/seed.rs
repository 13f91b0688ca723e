//! Reproducible data: the same seed gives the same records, byte for byte.

use fastrand::Rng;
use uuid::Uuid;

use super::model::{Book, Order, Record, User, money};

/// How much there is to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Books.
    pub books: usize,
    /// Users.
    pub users: usize,
    /// Orders.
    pub orders: usize,
    /// Carts, which stay.
    pub carts: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { books: 5_000, users: 1_000, orders: 2_500, carts: 200 }
    }
}

impl std::str::FromStr for Sizes {
    type Err = String;

    /// Four numbers with commas: `5000,1000,2500,200`.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers.as_deref() {
            Ok([books, users, orders, carts]) if *books > 0 && *users > 0 => {
                Ok(Self { books: *books, users: *users, orders: *orders, carts: *carts })
            }
            _ => Err(format!("{text:?} is not four numbers like 5000,1000,2500,200 with books and users")),
        }
    }
}

/// The moment the seeded past ends: 2026-01-01.
const PAST: i64 = 1_767_225_600_000;

const WORDS: [&str; 32] = [
    "river", "night", "glass", "winter", "garden", "letters", "salt", "paper", "ocean", "quiet", "machine", "harbour",
    "stone", "émigré", "map", "lantern", "orchard", "signal", "copper", "bridge", "museum", "shadow", "violin", "desert",
    "island", "kitchen", "archive", "tide", "窓", "clock", "feather", "smoke",
];
const NAMES: [&str; 12] =
    ["Ada", "Noor", "Jörg", "Mei", "Tomás", "Ines", "Kofi", "Yuki", "Lena", "Omar", "Ravi", "Zoë"];
const CITIES: [&str; 6] = ["Oslo", "Lisbon", "Kraków", "Nairobi", "Osaka", "Porto"];
const CATEGORIES: [&str; 6] = ["Fiction", "Science", "History", "Cooking", "Travel", "Poetry"];

/// A source of records.
#[derive(Clone, Debug)]
pub struct Seeder {
    rng: Rng,
    isbn: u64,
}

impl Seeder {
    /// A source with this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), isbn: 9_780_000_000_000 + (seed % 1000) * 1_000_000 }
    }

    /// The generator, for choices of the traffic.
    pub const fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A random key.
    pub fn id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid()
    }

    fn words(&mut self, n: usize) -> String {
        let words: Vec<&str> = (0..n).map(|_| WORDS[self.rng.usize(..WORDS.len())]).collect();
        words.join(" ")
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn address(&mut self) -> [String; 4] {
        [
            format!("{} {}", self.words(1), self.rng.u32(1..200)),
            self.pick(&CITIES).to_owned(),
            format!("{:05}", self.rng.u32(0..100_000)),
            "NO".to_owned(),
        ]
    }

    /// A new book.
    pub fn book(&mut self, now: Option<i64>) -> Book {
        let at = now.unwrap_or_else(|| PAST - self.rng.i64(0..50_000_000_000));
        self.isbn += 1;
        let isbn = self.isbn.to_string();
        let cents = self.rng.i64(199..9_999);
        Book {
            id: self.id(),
            title: self.words(3),
            author: format!("{} {}", self.pick(&NAMES), self.words(1)),
            description: self.words(30),
            price: money(cents),
            category: (self.rng.u8(..) > 25).then(|| self.pick(&CATEGORIES).to_owned()),
            isbn: (self.rng.u8(..) > 12).then_some(isbn),
            stock: self.rng.i64(0..500),
            created: at,
            updated: at,
        }
    }

    /// A new user.
    pub fn user(&mut self, now: Option<i64>, books: &[Uuid]) -> User {
        let at = now.unwrap_or_else(|| PAST - self.rng.i64(0..50_000_000_000));
        let id = self.id();
        let mut favorites: Vec<String> = (0..self.rng.usize(0..4))
            .filter_map(|_| (!books.is_empty()).then(|| books[self.rng.usize(..books.len())].to_string()))
            .collect();
        favorites.sort_unstable();
        favorites.dedup();
        User {
            id,
            email: format!("{}@example.org", id.simple()),
            name: format!("{} {}", self.pick(&NAMES), self.words(1)),
            address: self.address(),
            favorites,
            created: at,
            updated: at,
        }
    }

    /// A new order of an existing user.
    pub fn order(&mut self, now: Option<i64>, user: Uuid, books: &[Uuid]) -> Order {
        let at = now.unwrap_or_else(|| PAST - self.rng.i64(0..50_000_000_000));
        let items: Vec<(Uuid, i64, i64)> = (0..self.rng.usize(1..4))
            .map(|_| (books[self.rng.usize(..books.len())], self.rng.i64(1..5), self.rng.i64(199..9_999)))
            .collect();
        Order {
            id: self.id(),
            user,
            status: self.pick(&["placed", "paid", "shipped", "delivered"]).to_owned(),
            total: items.iter().map(|(_, n, price)| n * price).sum(),
            items,
            shipping: self.address(),
            created: at,
            updated: at,
        }
    }

    /// Everything there is to begin with. Two books do not fit PostgreSQL and are meant to be parked.
    pub fn all(&mut self, sizes: Sizes) -> (Vec<Record>, Vec<Uuid>) {
        let mut books: Vec<Book> = (0..sizes.books).map(|_| self.book(None)).collect();
        let mut awkward = Vec::new();
        if books.len() >= 10 {
            books[3].title.push_str("\u{0} with a NUL");
            books[7].price = "1234567890.125".to_owned();
            awkward = vec![books[3].id, books[7].id];
        }
        let ids: Vec<Uuid> = books.iter().map(|b| b.id).filter(|id| !awkward.contains(id)).collect();
        let users: Vec<User> = (0..sizes.users).map(|_| self.user(None, &ids)).collect();
        let orders: Vec<Order> = (0..sizes.orders)
            .map(|_| {
                let user = users[self.rng.usize(..users.len())].id;
                self.order(None, user, &ids)
            })
            .collect();
        let mut all: Vec<Record> = books.into_iter().map(Record::Book).collect();
        all.extend(users.into_iter().map(Record::User));
        all.extend(orders.into_iter().map(Record::Order));
        (all, awkward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_world() {
        let sizes = Sizes { books: 50, users: 10, orders: 30, carts: 1 };
        assert_eq!(Seeder::new(7).all(sizes), Seeder::new(7).all(sizes));
        assert_ne!(Seeder::new(7).all(sizes), Seeder::new(8).all(sizes));
        assert_eq!(Seeder::new(7).all(sizes).1.len(), 2);
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("1,2,3,4".parse(), Ok(Sizes { books: 1, users: 2, orders: 3, carts: 4 }));
        assert!("1,2,3".parse::<Sizes>().is_err());
        assert!("0,2,3,4".parse::<Sizes>().is_err());
    }
}
