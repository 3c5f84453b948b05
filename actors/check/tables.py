"""Which calls do what: names as they are imported, one package a line."""

from collections.abc import Iterable

# An entry `f` of package `p` stands for the call `p.f()` and for every call on what it returns.
_IO = """
builtins: open input breakpoint
io: open open_code FileIO
os: open read write close system popen remove unlink rename renames replace mkdir makedirs rmdir
os: removedirs listdir scandir walk fwalk link symlink chmod chown truncate utime fork forkpty
os: posix_spawn posix_spawnp execv execve execvp execl execlp spawnv spawnl kill killpg putenv
os: unsetenv chdir startfile mkfifo pipe
pathlib.Path: touch
shutil: copy copy2 copyfile copyfileobj copytree move rmtree make_archive unpack_archive chown
tempfile: TemporaryFile NamedTemporaryFile SpooledTemporaryFile TemporaryDirectory mkstemp mkdtemp
glob: glob iglob
fileinput: input FileInput
socket: socket create_connection create_server getaddrinfo gethostbyname gethostbyaddr socketpair
socket: gethostname getfqdn fromfd
ssl: get_server_certificate
subprocess: run call check_call check_output Popen getoutput getstatusoutput
requests: get post put patch delete head options request Session session
httpx: get post put patch delete head options request stream Client AsyncClient
aiohttp: ClientSession request TCPConnector
urllib.request: urlopen urlretrieve build_opener
urllib3: request PoolManager HTTPConnectionPool HTTPSConnectionPool connection_from_url
http.client: HTTPConnection HTTPSConnection
websockets: connect serve
websocket: create_connection WebSocketApp
smtplib: SMTP SMTP_SSL LMTP
ftplib: FTP FTP_TLS
imaplib: IMAP4 IMAP4_SSL
poplib: POP3 POP3_SSL
webbrowser: open open_new open_new_tab
sqlite3: connect
aiosqlite: connect
psycopg: connect Connection AsyncConnection
psycopg_pool: ConnectionPool AsyncConnectionPool
psycopg2: connect
asyncpg: connect create_pool
pymysql: connect
duckdb: connect
pymongo: MongoClient AsyncMongoClient
redis: Redis StrictRedis from_url
redis.asyncio: Redis StrictRedis from_url
sqlalchemy: create_engine
sqlalchemy.ext.asyncio: create_async_engine
boto3: client resource Session
aioboto3: Session
aiofiles: open
anyio: open_file connect_tcp run_process open_process
nats: connect
grpc: insecure_channel secure_channel
grpc.aio: insecure_channel secure_channel
openai: OpenAI AsyncOpenAI
anthropic: Anthropic AsyncAnthropic
paramiko: SSHClient
mmap: mmap
dbm: open
shelve: open
"""
_PATH_IO = """
pathlib.Path(): open read_text read_bytes write_text write_bytes mkdir rmdir unlink rename replace
pathlib.Path(): touch symlink_to hardlink_to chmod iterdir glob rglob walk
"""
_WAITS = """
time: sleep
signal: pause sigwait
select: select poll epoll
selectors: DefaultSelector
threading.Event(): wait
threading.Condition(): wait wait_for
threading.Lock(): acquire
threading.RLock(): acquire
threading.Semaphore(): acquire
threading.Barrier(): wait
queue.Queue(): get put join
concurrent.futures: wait as_completed
"""
_READS = """
os: getenv getpid getppid getcwd getcwdb getlogin getuid getgid stat lstat access cpu_count uname
os: getloadavg times get_terminal_size
os.path: exists lexists isfile isdir islink ismount getsize getmtime getatime getctime samefile
os.path: realpath abspath expanduser expandvars
platform: node platform system release machine uname python_version processor
getpass: getuser
locale: getlocale getdefaultlocale
sys: getrefcount
resource: getrusage
psutil: *
pathlib.Path: cwd home
pathlib.Path(): exists is_file is_dir is_symlink is_mount stat lstat resolve absolute expanduser
pathlib.Path(): owner group samefile readlink
"""
_THREADS = """
threading: Thread Timer
_thread: start_new_thread
concurrent.futures: ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor
multiprocessing: *
asyncio: to_thread run_coroutine_threadsafe
anyio.to_thread: run_sync
anyio.to_process: run_sync
anyio.from_thread: run start_blocking_portal
"""
_LOOPS = """
asyncio: run Runner new_event_loop set_event_loop open_connection open_unix_connection start_server
asyncio: start_unix_server create_subprocess_exec create_subprocess_shell
anyio: run
uvloop: run new_event_loop install
"""
_LOOP_METHODS = """
run_until_complete run_forever create_connection create_server create_unix_connection
create_unix_server create_datagram_endpoint subprocess_exec subprocess_shell add_reader add_writer
add_signal_handler sock_connect sock_recv sock_sendall getaddrinfo getnameinfo connect_read_pipe
connect_write_pipe
"""
_TASKS = """
asyncio: Task Future
asyncio.tasks: Task
asyncio.futures: Future
"""
_RANDOM = """
os: getrandom
ssl: RAND_bytes
numpy.random: *
torch: rand randn randint randperm
"""


def _names(text: str, code: str) -> Iterable[tuple[str, str]]:
    for line in text.strip().splitlines():
        package, names = line.split(": ")
        yield from ((f"{package}.{name}", code) for name in names.split())


_LOOP_GETTERS = ("asyncio.get_event_loop()", "asyncio.get_running_loop()")
_CALLS: dict[str, str] = {
    **dict(_names(_IO + _PATH_IO.lstrip(), "OB101")),
    **dict(_names(_WAITS, "OB102")),
    **dict(_names(_READS, "OB103")),
    **dict(_names(_THREADS, "OB104")),
    **dict(_names(_LOOPS, "OB105")),
    **dict(_names(_TASKS, "OB106")),
    **dict(_names(_RANDOM, "OB204")),
    **{f"{loop}.{name}": "OB105" for loop in _LOOP_GETTERS for name in _LOOP_METHODS.split()},
    **{f"{loop}.run_in_executor": "OB104" for loop in _LOOP_GETTERS},
    **{f"{loop}.set_task_factory": "OB106" for loop in _LOOP_GETTERS},
}
READ_ATTRIBUTES: dict[str, str] = {
    "os.environ": "OB103",
    "os.environb": "OB103",
    "sys.argv": "OB103",
    "sys.stdin": "OB101",
}
CLOCKS = frozenset(
    {f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")}
    | {"datetime.date.today", "time.localtime", "time.gmtime", "time.ctime"}
    | {
        f"time.{name}{unit}"
        for name in ("time", "monotonic", "perf_counter", "process_time")
        for unit in ("", "_ns")
    }
)
_DRAWS = ("random.", "secrets.", "uuid.uuid", "os.urandom", "numpy.random.")


def code_of_call(name: str) -> str | None:
    """Return the code for a call of `name`, such as `os.getpid` or `pathlib.Path().exists`."""
    found = _CALLS.get(name) or _CALLS.get(f"{name.rpartition('.')[0]}.*")
    if found is not None:
        return found
    maker, made, _ = name.partition("()")
    return _CALLS.get(maker) if made else None


def differs_per_process(name: str) -> bool:
    """Tell whether what the call returns at import is another value in every process."""
    return name in CLOCKS or code_of_call(name) == "OB103" or name.startswith(_DRAWS)
