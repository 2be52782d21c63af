"""An RTSP camera for tests: a real GStreamer server on 127.0.0.1, for the system's Python (gi is no wheel).

/usr/bin/python3 tests/rtsp_server.py PORT NAME=WHAT [--login USER:PASSWORD]

Prints its port when it is ready; PORT 0: a free one.

WHAT    film.mp4, played once at its own pace to every client (H.264), or WIDTHxHEIGHT@FPS, an endless test picture
        whose key frames come once a second; with "/N" after it: every N frames
"""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def pipeline_of(what: str) -> str:
    if what.endswith(".mp4"):
        # Whole pictures: the payloader puts parameters before each key NAL, and would cut pictures of several slices.
        parse = "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au"
        return f'( filesrc location="{what}" ! qtdemux ! {parse} ! rtph264pay name=pay0 pt=96 )'
    what, _, every = what.partition("/")
    size, _, fps = what.partition("@")
    width, height = size.split("x")
    return (
        f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},"
        f"framerate={fps}/1 ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=200 "
        f"key-int-max={every or fps} ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )


def ask_for_login(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, login: str) -> None:
    user, _, password = login.partition(":")
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    rights = Gst.Structure.from_string(
        f"viewer, {GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS}=true, "
        f"{GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT}=true"
    )[0]
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role_from_structure(rights)
    factory.set_permissions(permissions)


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    name, _, what = sys.argv[2].partition("=")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline_of(what))
    factory.set_shared(not what.endswith(".mp4"))
    if sys.argv[3:4] == ["--login"]:
        ask_for_login(server, factory, sys.argv[4])
    server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {sys.argv[1]}")
    print(server.get_bound_port(), flush=True)
    parent = os.getppid()

    def look() -> bool:  # a test that was killed leaves no server
        if os.getppid() != parent:
            os._exit(0)
        return True

    GLib.timeout_add(500, look)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
