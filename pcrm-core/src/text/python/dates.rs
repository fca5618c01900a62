//! Python's `strftime`, which chat templates call as `strftime_now`.

use chrono::{DateTime, Datelike, TimeZone, Timelike};
use minijinja::{Error, ErrorKind};

use crate::text::moment;

/// Returns `datetime.now().strftime(format)`: the time of the machine's own time zone, unless a run has fixed it.
pub(in crate::text) fn strftime_now(format: &str) -> Result<String, Error> {
    strftime(format, &moment::seen())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn strftime<Zone: TimeZone>(format: &str, moment: &DateTime<Zone>) -> Result<String, Error> {
    let now = moment.naive_local();
    let (year, month, day) = (now.year() as u32, now.month(), now.day());
    let (hour, minute, second) = (now.hour(), now.minute(), now.second());
    let sunday = now.weekday().num_days_from_sunday();
    let weekday = DAYS[sunday as usize];
    let day_of_year = now.ordinal();
    let month_name = MONTHS[now.month0() as usize];
    let twelve = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut code = characters.next();
        let bare = code == Some('-');
        if bare {
            code = characters.next();
        }
        let number = |value: u32| if bare { value.to_string() } else { format!("{value:02}") };
        let text = match code {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100),
            Some('m') => number(month),
            Some('d') => number(day),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => number(hour),
            Some('I') => number(twelve),
            Some('M') => number(minute),
            Some('S') => number(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('j') if bare => day_of_year.to_string(),
            Some('j') => format!("{day_of_year:03}"),
            Some('e') => format!("{day:2}"),
            Some('w') => sunday.to_string(),
            Some('u') => (if sunday == 0 { 7 } else { sunday }).to_string(),
            Some('U') => number((day_of_year + 6 - sunday) / 7),
            Some('W') => number((day_of_year + 6 - (sunday + 6) % 7) / 7),
            Some('C') => number(year / 100),
            Some('D' | 'x') => format!("{month:02}/{day:02}/{:02}", year % 100),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('X') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('r') => {
                let half = if hour < 12 { "AM" } else { "PM" };
                format!("{twelve:02}:{minute:02}:{second:02} {half}")
            }
            Some('c') => {
                let (weekday, month) = (&weekday[..3], &month_name[..3]);
                format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
            }
            Some('s') => moment.timestamp().to_string(),
            Some('f') => format!("{:06}", moment.timestamp_subsec_micros()),
            Some('k') => format!("{hour:2}"),
            Some('l') => format!("{twelve:2}"),
            Some('P') => if hour < 12 { "am" } else { "pm" }.to_owned(),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('z') => String::new(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => String::new(),
            Some('%') => "%".to_owned(),
            other => {
                let code = other.map(String::from).unwrap_or_default();
                let message = format!("strftime_now: %{code} is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
        out.push_str(&text);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn shown(format: &str, seconds: i64) -> String {
        strftime(format, &DateTime::from_timestamp(seconds, 0).unwrap()).unwrap()
    }

    /// Dates print like in Python, including a leap day and both ends of the clock.
    #[test]
    fn dates_are_pythons() {
        let at = |seconds| shown("%d %b %Y|%-d/%m/%y|%A %a|%H:%M:%S|%I %p|%F %%", seconds);
        assert_eq!(at(0), "01 Jan 1970|1/01/70|Thursday Thu|00:00:00|12 AM|1970-01-01 %");
        assert_eq!(at(1_709_210_096), "29 Feb 2024|29/02/24|Thursday Thu|12:34:56|12 PM|2024-02-29 %");
        assert_eq!(at(4_102_444_799), "31 Dec 2099|31/12/99|Thursday Thu|23:59:59|11 PM|2099-12-31 %");
        let more = |seconds| shown("%j|%-j|%e|%w|%u|%U|%W|%C|%D|%R|%r|%c|%-I|%s", seconds);
        assert_eq!(
            more(1_709_210_096),
            "060|60|29|4|4|08|09|20|02/29/24|12:34|12:34:56 PM|Thu Feb 29 12:34:56 2024|12|1709210096"
        );
        assert_eq!(
            more(1_704_067_199),
            "365|365|31|0|7|53|52|20|12/31/23|23:59|11:59:59 PM|Sun Dec 31 23:59:59 2023|11|1704067199"
        );
        assert_eq!(
            more(1_736_035_201),
            "005|5| 5|0|7|01|00|20|01/05/25|00:00|12:00:01 AM|Sun Jan  5 00:00:01 2025|12|1736035201"
        );
        assert!(strftime("%Q", &DateTime::UNIX_EPOCH).is_err());
    }

    /// Protects: dates are in the machine's time zone, as with `datetime.now()`: without a zone name, and with
    /// microseconds.
    #[test]
    fn dates_are_of_their_zone() {
        let india = FixedOffset::east_opt(5 * 3600 + 1800).unwrap();
        let moment = DateTime::from_timestamp(1_709_231_400, 12_345_678).unwrap().with_timezone(&india);
        let text = strftime("%F %H:%M:%S.%f|%A %j|%s|%z%Z", &moment).unwrap();
        assert_eq!(text, "2024-03-01 00:00:00.012345|Friday 061|1709231400|");
    }
}
