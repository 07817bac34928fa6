//! `output` with `view=png`: the screen of a session as an image.

use farwire_protocol::failure::{Failure, Kind};

use crate::handles::Handle;
use crate::sessions::control;
use crate::text::header::Key;
use crate::text::picture::Grid;
use crate::tools::answer::session::{header, with_cursor, with_size};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;

/// Draws the screen and adds it to the answer. Returns the line that goes with it.
pub(super) async fn draw(
    seat: &Seat,
    caller: &Caller,
    session: &Handle,
) -> Result<String, Failure> {
    let client = seat.client().await?;
    let answer = control::draw(client, &session.server, session.job).await?;
    let status = &answer.ended.status;
    let (cols, rows) = (status.size.cols, status.size.rows);
    let drawing = seat.process.masks.blot(answer.text);
    let masks = seat.process.masks.clone();
    let drawn = tokio::task::spawn_blocking(move || {
        let grid = Grid::draw(&drawing, cols, rows)?;
        if masks.shows(&grid.text()) {
            let text = "the screen shows a secret that this process has typed";
            return Err(Failure::new(Kind::NotGranted, text).with_hint(
                "view=screen shows the rest as text; clear the screen to get a picture",
            ));
        }
        grid.picture()
    });
    let died = |_| Failure::new(Kind::Internal, "the picture was not drawn");
    let picture = drawn.await.map_err(died)??;
    let mut header = with_cursor(header(session.id, &answer.ended), status);
    header = with_size(header, status.size);
    let shown = (picture.cols.len(), picture.rows.len());
    if shown != (usize::from(cols), usize::from(rows)) {
        let (cols, rows) = (picture.cols, picture.rows);
        let part = format!("{}-{}x{}-{}", cols.start + 1, cols.end, rows.start + 1, rows.end);
        header = header.field(Key::Shown, part);
    }
    caller.show(picture.png, "image/png");
    Ok(format!("{}\n", header.end()))
}
