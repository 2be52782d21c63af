"""An RTSP camera for trying things out: plays an H.264 film over and over, or a test picture.

    /usr/bin/python3 deploy/demo_camera.py [FILM.mp4] [--port 8554] [--address 0.0.0.0]

At rtsp://HOST:PORT/live. Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-*. Every client
sees the film from its start; at its end the stream ends, and the client connects anew, as after a camera's restart.
"""

import argparse
import os

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PARSED = "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au"
PICTURE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=640,height=360,framerate=10/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=10 ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("film", nargs="?")
    parser.add_argument("--port", default="8554")
    parser.add_argument("--address", default="0.0.0.0")
    given = parser.parse_args()
    if given.film and not os.path.isfile(given.film):  # noqa: PTH113
        parser.error(f"{given.film}: no such film")
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(given.address)
    server.set_service(given.port)
    factory = GstRtspServer.RTSPMediaFactory()
    film = f'( filesrc location="{given.film}" ! qtdemux ! {PARSED} ! rtph264pay name=pay0 pt=96 )'
    factory.set_launch(film if given.film else PICTURE)
    factory.set_shared(not given.film)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(f"rtsp://{given.address}:{server.get_bound_port()}/live", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
