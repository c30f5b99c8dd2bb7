"""Calls a work function with each slice of a batch; one line of reports for each thing to say."""
import ast, io, json, os, signal, sys, time, traceback

TEXT, SAID, SAID_BYTES, PROGRESS_EVERY, PROGRESS_AT_ONCE = 8192, 500, 128 << 10, 0.05, 32

out = os.dup(1)
null = os.open(os.devnull, os.O_WRONLY)
os.dup2(null, 1)

with open(os.environ.pop("MUSTER_INPUTS"), "rb") as file:
    lines = file.read().split(b"\n")
head = json.loads(lines[0])
source, public, most = head["function"], head["public"], head["value_bytes"]


def write(text):
    data = b'{"reports":[' + text.encode("utf-8", "backslashreplace") + b"]}\n"
    while data:
        data = data[os.write(out, data):]


def report(kind, **members):
    write(json.dumps({kind: members}))


class Rejected(Exception):
    pass


class SliceTimeout(BaseException):
    pass


class Slice:
    number = said = size = left_out = 0
    progressed = -1.0
    rejected = None


now = Slice()


def fits(size):
    if now.said >= SAID or now.size + size > SAID_BYTES:
        now.left_out += 1
        return False
    now.said += 1
    now.size += size
    return True


def say(level, message):
    message = message[:TEXT]
    if fits(len(message)):
        report("console", number=now.number, level=level, message=message)


class Stream(io.TextIOBase):
    def __init__(self, level):
        self.level, self.rest = level, ""

    def writable(self):
        return True

    def write(self, text):
        *whole, rest = (self.rest + text).split("\n")
        for line in whole:
            say(self.level, line)
        self.rest = rest[:TEXT]
        return len(text)

    def finish(self):
        if self.rest:
            self.rest, rest = "", self.rest
            say(self.level, rest)


class Console:
    pass


def speaker(level):
    def speak(*values):
        say(level, " ".join(v if isinstance(v, str) else repr(v) for v in values))
    return speak


for name in ("log", "info", "warn", "error", "debug"):
    setattr(Console, name, staticmethod(speaker(name)))


def plain(value):
    """Without the numbers that JSON has not."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def to_json(value):
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        if "Circular" in str(error):
            raise
    return json.dumps(plain(value), allow_nan=False)


def progress(value=None):
    moment = time.monotonic()
    due = max(now.progressed, moment) + PROGRESS_EVERY
    if due <= moment + PROGRESS_EVERY * PROGRESS_AT_ONCE:
        now.progressed = due
        text = to_json(value)
        if len(text) <= SAID_BYTES:
            write('{"progress":{"number":%d,"progress":%s}}' % (now.number, text))
    return True


class Job:
    pass


class Work:
    @staticmethod
    def emit(name, value=None):
        text = to_json(value)
        if fits(len(text)):
            write('{"emit":{"number":%d,"name":%s,"value":%s}}' % (now.number, json.dumps(str(name)[:TEXT]), text))

    @staticmethod
    def reject(reason=None):
        now.rejected = "rejected" if reason is None else str(reason)
        raise Rejected(now.rejected)


def prepare():
    """What makes the function, given a namespace."""
    try:
        code = compile(source, "work.py", "eval")
        return lambda space: eval(code, space)
    except SyntaxError:
        tree = ast.parse(source, "work.py")
    if not tree.body or not isinstance(tree.body[-1], (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise SyntaxError("must be a lambda expression, or end with a def")
    code, name = compile(tree, "work.py", "exec"), tree.body[-1].name

    def make(space):
        exec(code, space)
        return space[name]
    return make


def late(*_):
    raise SliceTimeout()


def call(make, datum):
    work = Work()
    work.job = Job()
    work.job.public = json.loads(public)
    space = {"__name__": "work", "progress": progress, "console": Console(), "work": work}
    function = make(space)
    if not callable(function):
        raise TypeError("the source is not a function")
    value = function(json.loads(datum), *json.loads(head["args"]))
    if hasattr(value, "__await__"):
        import asyncio

        async def settle():
            return await value
        value = asyncio.run(settle())
    text = to_json(value)
    if len(text) > most:
        raise ValueError("the result is larger than %d bytes" % most)
    return text


def run(number, datum):
    global make
    now.number, now.said, now.size, now.rejected = number, 0, 0, None
    sys.stdout, sys.stderr = Stream("log"), Stream("error")
    signal.signal(signal.SIGALRM, late)
    value = failure = None
    began = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, head["limit"])
        try:
            if make is None:
                make = prepare()
            value = call(make, datum)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except SliceTimeout:
        failure = ("TimeoutError", "the slice took longer than %s s" % head["slice_seconds"])
    except BaseException as error:
        if now.rejected is None:
            kind = type(error)
            try:
                frames = traceback.extract_tb(error.__traceback__)
                frames = [frame for frame in frames if frame.filename == "work.py"]
                stack = "".join(traceback.format_list(frames[-20:]))
                failure = (kind.__name__, (str(error) + ("\n" + stack if stack else "")).strip())
            except BaseException:
                failure = (kind.__name__, "what was raised cannot be shown")
    took = time.perf_counter() - began
    if now.rejected is not None:
        value, failure = None, ("Rejected", now.rejected)
    sys.stdout.finish() if isinstance(sys.stdout, Stream) else None
    sys.stderr.finish() if isinstance(sys.stderr, Stream) else None
    if now.left_out:
        report("console", number=number, level="warn", message="[%d lines or values left out]" % now.left_out)
        now.left_out = 0
    if failure is None:
        write('{"finished":{"number":%d,"value":%s,"seconds":%.6f}}' % (number, value, took))
    else:
        name, message = failure
        report("failed", number=number, name=name[:200], message=message[:TEXT], seconds=took)


make = None
for line in lines[1:]:
    if line:
        run(*json.loads(line))
