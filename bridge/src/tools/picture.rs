//! `output` with `view=png`: the screen of a session as an image.

use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::Request;

use crate::client::Server;
use crate::sessions::ask;
use crate::text::header::Key;
use crate::text::picture::Grid;
use crate::tools::session::{header, said};
use crate::tools::{Caller, Desk};

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Draws the screen, and gives the line that goes with the picture.
pub(super) async fn draw(
    desk: &Desk,
    caller: &Caller,
    (id, server, session): (ShortId, &Server, Nonce),
) -> Result<String, Failure> {
    let client = desk.client().await?;
    let request = Request::Draw(session);
    let answer = ask(client, server, &request, PATIENCE).await.map_err(said)?;
    let status = &answer.ended.status;
    let (cols, rows) = (status.size.cols, status.size.rows);
    let drawing = desk.process.masks.blot(answer.text);
    let masks = desk.process.masks.clone();
    let drawn = tokio::task::spawn_blocking(move || {
        let grid = Grid::draw(&drawing, cols, rows)?;
        if masks.shows(&grid.text()) {
            let text = "the screen shows a secret that was typed from here";
            return Err(Failure::new(Kind::NotGranted, text)
                .with_hint("view=screen shows the rest of it; clear the screen for a picture"));
        }
        grid.picture()
    });
    let died = |_| Failure::new(Kind::Internal, "the picture was not drawn");
    let picture = drawn.await.map_err(died)??;
    let mut header = header(id, &answer.ended);
    if let Some(cursor) = status.cursor {
        header = header.field(Key::Cursor, format_args!("{}.{}", cursor.rows, cursor.cols));
    }
    header = header.field(Key::Size, format_args!("{cols}x{rows}"));
    let shown = (picture.cols.len(), picture.rows.len());
    if shown != (usize::from(cols), usize::from(rows)) {
        let (cols, rows) = (picture.cols, picture.rows);
        let part = format!("{}-{}x{}-{}", cols.start + 1, cols.end, rows.start + 1, rows.end);
        header = header.field(Key::Shown, part);
    }
    caller.show(picture.png, "image/png");
    Ok(format!("{}\n", header.end()))
}
