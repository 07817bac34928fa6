//! Draws a screen as a PNG picture from the escape sequences that draw it.
//!
//! Each cell is 8 by 16 pixels in GNU Unifont, which has a glyph for every character, so that the
//! same screen gives the same picture everywhere. Bold text is drawn twice, one pixel apart. Of a
//! screen larger than [`COLS`] by [`ROWS`], the part around the cursor is shown.

use std::num::NonZeroU16;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use farwire_protocol::failure::{Failure, Kind};
use unifont_bitmap::Unifont;
use vt100::{Cell, Color, Parser, Screen};

/// A cell, in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 16;

/// The most that a picture shows.
pub const COLS: u16 = 240;
/// The most that a picture shows.
pub const ROWS: u16 = 100;

/// The largest terminal: agents keep sizes within it.
const LARGEST: u16 = 1_000;

/// The default colours.
const FOREGROUND: Rgb = [0xd0, 0xd0, 0xd0];
const BACKGROUND: Rgb = [0x12, 0x12, 0x12];

type Rgb = [u8; 3];

/// A picture, and the part of the screen that it shows: usually all of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The file.
    pub png: Vec<u8>,
    /// Columns, from 0.
    pub cols: Range<u16>,
    /// Rows, from 0.
    pub rows: Range<u16>,
}

/// A screen that has been drawn.
pub struct Grid(Parser);

impl std::fmt::Debug for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grid")
    }
}

impl Grid {
    /// Draws a screen of this size from an agent's escape sequences.
    pub fn draw(drawing: &[u8], cols: u16, rows: u16) -> Result<Self, Failure> {
        let fits = |side: u16| NonZeroU16::new(side.min(LARGEST)).unwrap_or(NonZeroU16::MIN);
        // These bytes are untrusted.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            let mut parser = Parser::new(fits(rows), fits(cols), 0);
            parser.process(drawing);
            parser
        }));
        let text = "the screen could not be drawn";
        drawn.map(Self).map_err(|_| Failure::new(Kind::Internal, text))
    }

    /// Its text, without ends of rows, so that wrapped text is whole again.
    pub fn text(&self) -> String {
        let screen = self.0.screen();
        let cols = screen.size().1.get();
        screen.rows(0, cols).map(|row| row.trim_end().to_owned()).collect()
    }

    /// The picture of it.
    pub fn picture(&self) -> Result<Picture, Failure> {
        let screen = self.0.screen();
        let (all_rows, all_cols) = screen.size();
        let (row, col) = screen.cursor_position();
        let rows = window(row, all_rows.get(), ROWS);
        let cols = window(col, all_cols.get(), COLS);
        let mut canvas = Canvas::new(cols.len(), rows.len());
        let mut font = Unifont::open();
        for (y, row) in rows.clone().enumerate() {
            for (x, col) in cols.clone().enumerate() {
                let Some(cell) = screen.cell(row, col) else { continue };
                if !cell.is_wide_continuation() {
                    canvas.cell((x, y), cell, is_cursor(screen, row, col), &mut font);
                }
            }
        }
        Ok(Picture { png: canvas.png()?, cols, rows })
    }
}

/// The part of one dimension that contains the cursor.
fn window(cursor: u16, all: u16, most: u16) -> Range<u16> {
    if all <= most {
        return 0..all;
    }
    let start = cursor.saturating_sub(most - 1).min(all - most);
    start..start + most
}

fn is_cursor(screen: &Screen, row: u16, col: u16) -> bool {
    !screen.hide_cursor() && screen.cursor_position() == (row, col)
}

/// Pixels as indices of colours.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    palette: Vec<Rgb>,
}

impl Canvas {
    fn new(cols: usize, rows: usize) -> Self {
        let (width, height) = (cols * WIDTH, rows * HEIGHT);
        Self { width, height, pixels: vec![0; width * height], palette: vec![BACKGROUND] }
    }

    /// The index of a colour, or of the nearest if there are too many.
    fn number(&mut self, colour: Rgb) -> u8 {
        let known = self.palette.iter().position(|known| *known == colour);
        let at = known.unwrap_or_else(|| {
            if self.palette.len() < 256 {
                self.palette.push(colour);
                return self.palette.len() - 1;
            }
            let far = |known: &Rgb| -> u32 {
                known.iter().zip(colour).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
            };
            let nearest = self.palette.iter().enumerate().min_by_key(|(_, known)| far(known));
            nearest.map_or(0, |(at, _)| at)
        });
        u8::try_from(at).unwrap_or(0)
    }

    fn cell(&mut self, (x, y): (usize, usize), cell: &Cell, cursor: bool, font: &mut Unifont) {
        let (ink, paper) = colours(cell, cursor);
        let (ink, paper) = (self.number(ink), self.number(paper));
        let cells = if cell.is_wide() { 2 } else { 1 };
        let (left, top) = (x * WIDTH, y * HEIGHT);
        self.fill((left, top), (cells * WIDTH, HEIGHT), paper);
        for char in cell.contents().chars().filter(|char| *char != ' ') {
            // The first is the character; combining marks are drawn over it.
            let bitmap = font.load_bitmap(u32::from(char));
            let wide = bitmap.is_wide();
            let bytes_a_row = if wide { 2 } else { 1 };
            for (line, row) in bitmap.get_bytes().chunks(bytes_a_row).enumerate() {
                let bits = row.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
                let bits = if cell.bold() { bits | bits >> 1 } else { bits };
                let most = (cells * WIDTH).min(bytes_a_row * 8);
                for at in (0..most).filter(|at| bits >> (bytes_a_row * 8 - 1 - at) & 1 == 1) {
                    self.dot((left + at, top + line), ink);
                }
            }
        }
        if cell.underline() {
            self.fill((left, top + HEIGHT - 2), (cells * WIDTH, 1), ink);
        }
    }

    fn fill(&mut self, (left, top): (usize, usize), (width, height): (usize, usize), colour: u8) {
        for y in top..top + height {
            for x in left..left + width {
                self.dot((x, y), colour);
            }
        }
    }

    fn dot(&mut self, (x, y): (usize, usize), colour: u8) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = colour;
        }
    }

    fn png(self) -> Result<Vec<u8>, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Internal, format!("the picture could not be written: {error}"))
        };
        let side = |side: usize| u32::try_from(side).unwrap_or(0);
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(self.palette.concat());
        let mut writer = encoder.write_header().map_err(|error| failed(&error))?;
        writer.write_image_data(&self.pixels).map_err(|error| failed(&error))?;
        writer.finish().map_err(|error| failed(&error))?;
        Ok(png)
    }
}

/// The foreground and background of a cell.
fn colours(cell: &Cell, cursor: bool) -> (Rgb, Rgb) {
    let bright = |colour: Color| match colour {
        // Bold text of the first eight colours is brighter, as most terminals have it.
        Color::Idx(number @ 0..=7) if cell.bold() => Color::Idx(number + 8),
        other => other,
    };
    let mut ink = rgb(bright(cell.fgcolor()), FOREGROUND);
    let mut paper = rgb(cell.bgcolor(), BACKGROUND);
    if cell.inverse() != cursor {
        std::mem::swap(&mut ink, &mut paper);
    }
    if cell.dim() {
        let between = |a: u8, b: u8| u8::try_from(u16::midpoint(a.into(), b.into())).unwrap_or(a);
        ink = std::array::from_fn(|at| between(ink[at], paper[at]));
    }
    (ink, paper)
}

/// xterm's colours.
fn rgb(colour: Color, default: Rgb) -> Rgb {
    const FIRST: [Rgb; 16] = [
        [0x00, 0x00, 0x00],
        [0xcd, 0x31, 0x31],
        [0x0d, 0xbc, 0x79],
        [0xc5, 0xc5, 0x10],
        [0x3b, 0x7a, 0xe8],
        [0xbc, 0x3f, 0xbc],
        [0x11, 0xa8, 0xcd],
        [0xd0, 0xd0, 0xd0],
        [0x76, 0x76, 0x76],
        [0xf1, 0x4c, 0x4c],
        [0x23, 0xd1, 0x8b],
        [0xf5, 0xf5, 0x43],
        [0x6f, 0xa8, 0xff],
        [0xd6, 0x70, 0xd6],
        [0x29, 0xb8, 0xdb],
        [0xff, 0xff, 0xff],
    ];
    let step = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
    match colour {
        Color::Default => default,
        Color::Rgb(red, green, blue) => [red, green, blue],
        Color::Idx(number @ 0..=15) => FIRST[usize::from(number)],
        Color::Idx(number @ 16..=231) => {
            let cube = number - 16;
            [step(cube / 36), step(cube / 6 % 6), step(cube % 6)]
        }
        Color::Idx(number) => [8 + 10 * (number - 232); 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of a picture, row by row.
    fn pixels(png: &[u8]) -> (usize, Vec<Rgb>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let all = bytes[..info.buffer_size()].chunks(3).map(|rgb| [rgb[0], rgb[1], rgb[2]]);
        (usize::try_from(info.width).unwrap(), all.collect())
    }

    /// The colours within one cell.
    fn cell(drawing: &str, col: usize, row: usize) -> Vec<Rgb> {
        let grid = Grid::draw(drawing.as_bytes(), 20, 4).unwrap();
        let (width, all) = pixels(&grid.picture().unwrap().png);
        assert_eq!((width, all.len()), (160, 160 * 64));
        let line = |y: usize| {
            let from = (row * HEIGHT + y) * width + col * WIDTH;
            all[from..from + WIDTH].to_vec()
        };
        (0..HEIGHT).flat_map(line).collect()
    }

    fn count(cell: &[Rgb], colour: Rgb) -> usize {
        cell.iter().filter(|one| **one == colour).count()
    }

    #[test]
    fn text_has_its_colours_and_attributes() {
        let hidden = "\x1b[?25l";
        let plain = cell(&format!("{hidden}A"), 0, 0);
        assert!(count(&plain, FOREGROUND) > 20 && count(&plain, BACKGROUND) > 60);
        let bold = cell(&format!("{hidden}\x1b[1mA"), 0, 0);
        assert!(count(&bold, FOREGROUND) > count(&plain, FOREGROUND));
        let red = cell(&format!("{hidden}\x1b[31;44mA"), 0, 0);
        assert_eq!(count(&red, rgb(Color::Idx(1), FOREGROUND)), count(&plain, FOREGROUND));
        assert_eq!(count(&red, rgb(Color::Idx(4), FOREGROUND)), count(&plain, BACKGROUND));
        let inverse = cell(&format!("{hidden}\x1b[7mA"), 0, 0);
        assert_eq!(count(&inverse, BACKGROUND), count(&plain, FOREGROUND));
        let underlined = cell(&format!("{hidden}\x1b[4mA"), 0, 0);
        assert_eq!(count(&underlined, FOREGROUND), count(&plain, FOREGROUND) + 8);
        let exact = cell(&format!("{hidden}\x1b[38;2;1;2;3mA"), 0, 0);
        assert_eq!(count(&exact, [1, 2, 3]), count(&plain, FOREGROUND));
        assert_eq!(
            count(&cell(&format!("{hidden}\x1b[38;5;196mA"), 0, 0), [255, 0, 0]),
            count(&plain, FOREGROUND)
        );
    }

    #[test]
    fn the_cursor_is_seen_where_it_is_and_not_where_it_is_hidden() {
        assert_eq!(count(&cell("\x1b[2;3H", 2, 1), FOREGROUND), WIDTH * HEIGHT);
        assert_eq!(count(&cell("\x1b[2;3H\x1b[?25l", 2, 1), FOREGROUND), 0);
    }

    #[test]
    fn wide_characters_lines_and_accents_are_drawn() {
        let drawn = |text: &str, col| count(&cell(&format!("\x1b[?25l{text}"), col, 0), FOREGROUND);
        assert!(drawn("井", 0) > 10 && drawn("井", 1) > 10, "both halves");
        assert_eq!(drawn("│", 0), HEIGHT, "a line without gaps");
        assert_eq!(drawn("█", 0), WIDTH * HEIGHT);
        assert!(drawn("e\u{301}", 0) > drawn("e", 0), "an accent over its letter");
        assert!(drawn("\u{e123}", 0) > 0, "what has no glyph is seen");
    }

    #[test]
    fn a_large_screen_is_shown_around_its_cursor() {
        let grid = Grid::draw(b"\x1b[950;900H", 1_000, 1_000).unwrap();
        let picture = grid.picture().unwrap();
        assert_eq!((picture.cols.clone(), picture.rows.clone()), (660..900, 850..950));
        let (width, all) = pixels(&picture.png);
        assert_eq!((width, all.len()), (1_920, 1_920 * 1_600));
        assert!(picture.png.len() < 64 << 10, "{}", picture.png.len());
        let picture = Grid::draw(b"", u16::MAX, u16::MAX).unwrap().picture().unwrap();
        assert_eq!((picture.cols, picture.rows), (0..240, 0..100));
    }

    #[test]
    fn any_bytes_are_drawn_or_refused() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(grid) = Grid::draw(bytes, 20, 4) {
                assert!(grid.picture().unwrap().png.len() < 1 << 16);
            }
        });
    }
}
