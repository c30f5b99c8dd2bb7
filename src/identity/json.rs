//! Reads JSON so that nothing is lost or guessed: no key twice, no number that changes, no text
//! without a UTF-8 form.

use rustc_hash::FxHashSet;

/// Levels of arrays and objects, the outermost being the first, where nothing else is asked for.
pub const DEPTH: usize = 32;
/// Members up to which a look over all of them is the fastest way to find a key twice.
const FEW: usize = 16;

/// A JSON value as it was written: integers are exact, members keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer from 0 on.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// A number written with a fraction or an exponent.
    Float(f64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// Members in the order in which they were written; no key is there twice.
    Object(Vec<(String, Json)>),
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not one JSON text in UTF-8.
    #[error("not JSON at byte {0}")]
    Malformed(usize),
    /// Arrays and objects are nested too deeply.
    #[error("nested too deeply at byte {0}")]
    TooDeep(usize),
    /// An object has a key twice.
    #[error("a key is there twice at byte {0}")]
    DuplicateKey(usize),
    /// A number is none that survives: beyond 64 bits, infinite, or `-0`.
    #[error("a number that does not survive at byte {0}")]
    Number(usize),
}

impl Json {
    /// Reads one text with at most `depth` levels of arrays and objects.
    ///
    /// What is no JSON at all is told first, wherever it stands; then a key that is there twice;
    /// then a number.
    ///
    /// # Errors
    /// [`JsonError`]: what is wrong, and at which byte.
    pub fn read(text: &[u8], depth: usize) -> Result<Self, JsonError> {
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(err) => return Err(JsonError::Malformed(err.valid_up_to())),
        };
        let mut reader = Reader { text, at: 0, left: depth, duplicate: None, number: None };
        reader.space();
        let value = reader.value()?;
        reader.space();
        if reader.at != text.len() {
            return Err(reader.malformed());
        }
        match (reader.duplicate, reader.number) {
            (Some(at), _) => Err(JsonError::DuplicateKey(at)),
            (None, Some(at)) => Err(JsonError::Number(at)),
            (None, None) => Ok(value),
        }
    }

    /// The member of that name, when this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The members, when this is an object.
    pub fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The text, when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, when this is an integer from 0 on.
    pub const fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            _ => None,
        }
    }

    /// Takes the member of that name out of an object.
    pub fn remove(&mut self, name: &str) -> Option<Self> {
        let Self::Object(members) = self else { return None };
        let at = members.iter().position(|(key, _)| key == name)?;
        Some(members.remove(at).1)
    }
}

impl From<&Json> for serde_json::Value {
    fn from(value: &Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(on) => Self::Bool(*on),
            Json::Unsigned(number) => Self::from(*number),
            Json::Negative(number) => Self::from(*number),
            Json::Float(number) => Self::from(*number),
            Json::String(text) => Self::String(text.clone()),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(members) => Self::Object(
                members.iter().map(|(key, value)| (key.clone(), value.into())).collect(),
            ),
        }
    }
}

/// A place in a text. It calls itself once for each level, and there are at most `left` of them.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    left: usize,
    /// The first key that is there twice.
    duplicate: Option<usize>,
    /// The first number that does not survive.
    number: Option<usize>,
}

impl Reader<'_> {
    const fn malformed(&self) -> JsonError {
        JsonError::Malformed(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.malformed());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self) -> Result<Json, JsonError> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.malformed()),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Json, JsonError>,
    ) -> Result<Json, JsonError> {
        let Some(left) = self.left.checked_sub(1) else { return Err(JsonError::TooDeep(self.at)) };
        self.left = left;
        self.at += 1;
        self.space();
        let value = read(self)?;
        self.left += 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.malformed());
            }
            self.space();
        }
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let mut members: Vec<(String, Json)> = Vec::new();
        // Where each key was found, to be told the first that comes again.
        let mut places: Vec<usize> = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            let place = self.at;
            let key = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err(self.malformed());
            }
            self.space();
            let value = self.value()?;
            members.push((key, value));
            places.push(place);
            self.space();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.malformed());
            }
            self.space();
        }
        if self.duplicate.is_none() {
            self.duplicate = twice(&members).and_then(|index| places.get(index).copied());
        }
        Ok(Json::Object(members))
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let negative = self.eat(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.malformed()),
        }
        let mut float = false;
        if self.eat(b'.') {
            float = true;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let token = self.text.get(start..self.at).unwrap_or_default();
        let read = if float {
            token.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::Float)
        } else if negative {
            token.parse().ok().filter(|number| *number != 0).map(Json::Negative)
        } else {
            token.parse().ok().map(Json::Unsigned)
        };
        Ok(read.unwrap_or_else(|| {
            self.number.get_or_insert(start);
            Json::Null
        }))
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.malformed());
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, JsonError> {
        if !self.eat(b'"') {
            return Err(self.malformed());
        }
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            // Both ends are beside ASCII, so this cuts no character.
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escaped()?);
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Result<char, JsonError> {
        let Some(letter) = self.peek() else { return Err(self.malformed()) };
        let start = self.at;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                let code = match unit {
                    0xd800..=0xdbff => {
                        let paired = self.eat(b'\\') && self.eat(b'u');
                        let low = if paired { self.unit()? } else { 0 };
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return Err(JsonError::Malformed(start));
                        }
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    unit => unit,
                };
                // What is left are low halves without a high one.
                char::from_u32(code).ok_or(JsonError::Malformed(start))?
            }
            _ => return Err(JsonError::Malformed(start)),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let unit = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = unit.and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = unit.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.malformed())?;
        self.at += 4;
        Ok(unit)
    }
}

/// The index of the first key that was there before.
fn twice(members: &[(String, Json)]) -> Option<usize> {
    if members.len() <= FEW {
        let seen_before = |(index, (key, _)): &(usize, &(String, Json))| {
            members.iter().take(*index).any(|(other, _)| other == key)
        };
        return members.iter().enumerate().find(seen_before).map(|(index, _)| index);
    }
    let mut seen = FxHashSet::default();
    members.iter().position(|(key, _)| !seen.insert(key.as_str()))
}
