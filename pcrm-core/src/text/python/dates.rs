//! Python's `strftime`, which chat templates call as `strftime_now`.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

/// Returns `datetime.now().strftime(format)` in UTC, because the standard library has no time zones.
pub(in crate::text) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
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
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = DAYS[(days % 7) as usize];
    let sunday = (days + 4) % 7;
    let day_of_year = days - first_of(year) + 1;
    let month_name = MONTHS[(month - 1) as usize];
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
        let number = |value: u64| if bare { value.to_string() } else { format!("{value:02}") };
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
            Some('s') => seconds.to_string(),
            Some('f') => "000000".to_owned(),
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

/// Converts days since 1970-01-01 to a Gregorian year, month and day.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that leap days end the year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Returns the number of days from 1970-01-01 to the first day of a year.
fn first_of(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates print like in Python, including a leap day and both ends of the clock.
    #[test]
    fn dates_are_pythons() {
        let at = |seconds| strftime("%d %b %Y|%-d/%m/%y|%A %a|%H:%M:%S|%I %p|%F %%", seconds).unwrap();
        assert_eq!(at(0), "01 Jan 1970|1/01/70|Thursday Thu|00:00:00|12 AM|1970-01-01 %");
        assert_eq!(at(1_709_210_096), "29 Feb 2024|29/02/24|Thursday Thu|12:34:56|12 PM|2024-02-29 %");
        assert_eq!(at(4_102_444_799), "31 Dec 2099|31/12/99|Thursday Thu|23:59:59|11 PM|2099-12-31 %");
        let more = |seconds| strftime("%j|%-j|%e|%w|%u|%U|%W|%C|%D|%R|%r|%c|%-I|%s", seconds).unwrap();
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
        assert!(strftime("%Q", 0).is_err());
    }
}
